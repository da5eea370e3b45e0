"""Which tests are about what a system may lack, or ask it for that themselves: the file, the class or the test.

The reasons are of three kinds: the test looks at how the library uses the thing; it takes the thing away itself, to do what is done
here for all tests; or its file imports it.
"""

from __future__ import annotations

#: By the part, as `lacking/sitecustomize.py` names them.
NEEDS: dict[str, tuple[str, ...]] = {
    "epoll": ("test_monkey_select.py",),
    "poll": (
        "test_monkey_select.py",
        "test_wait.py::TestKeptPoll",
        "test_wait.py::TestHungUp",
        "test_wait.py::TestWaitReady::test_beyond_what_select_can",
        "test_sockets.py::test_accept_on_a_listener_that_is_shut_down",
        "test_instants.py::TestPolling",
        "test_instants.py::TestWokenEarly::test_wait_for_something",
    ),
    "splice": ("test_http_splice.py::TestWithoutSplice", "test_http_splice.py::TestStops::test_between_pieces"),
    "copy_file_range": (
        "test_copy.py::test_copyfileobj_between_files_stops",
        "test_copy.py::test_copyfileobj_between_files_sees_each_stop",
    ),
    "sendfile": (
        "test_sockets.py::test_sendfile_on_a_blocking_descriptor_of_others_can_be_stopped",
        "test_sockets.py::test_the_timeout_of_sendfile_is_for_each_wait",
    ),
    "renameat2": ("test_cli_copy.py::test_the_rename_that_does_not_replace",),
    "nowait": ("test_files.py::test_the_descriptor_of_a_fifo_can_be_handed_on",),
    "pidfd": ("test_run.py", "test_endings.py::TestProcesses"),
    "fdatasync": (
        "test_downloads_stops.py::TestPhases::test_the_disk",
        "test_downloads_places.py::TestTheName::test_the_bytes_come_first",
        "test_downloads_places.py::TestTheFileItself::test_it_comes_in_the_last_moment",
        "test_downloads_places.py::TestBusy::test_a_disk_that_is_slow",
    ),
    "xattr": ("test_downloads_state.py::TestOrigin",),
    "errqueue": ("test_sockets.py::test_receiving_with_an_error_queued_is_no_busy_loop",),
    "proc": (
        "test_files.py::test_a_file_that_grows_or_has_no_size_is_read_to_its_end",
        "test_files_wrap.py::test_a_wrapped_terminal_closes_all_that_it_opened",
        "test_copy.py::test_empty_files_and_those_that_only_seem_so",
        "test_copy.py::test_copyfileobj_of_what_only_seems_empty",
        "test_cli_copy.py::test_whose_size_is_not_told",
        # Where one boot is not told from another, no copy is resumed, and a download's part is synced at its end.
        "test_cli_copy.py::test_resumes_after_a_stop",
        "test_cli_copy.py::test_says_where_it_resumed",
        "test_cli_copy.py::test_what_came_meanwhile",
        "test_downloads_part.py::TestSaving",
        "test_downloads_part.py::TestAnotherVersion::test_forgotten",
    ),
    "pread": (
        "test_http_lean.py::TestAnswers",
        "test_http_lean.py::TestConnections::test_too_long",
        "test_downloads_part.py",
    ),
    "fork": (
        "test_stop.py::TestFork",
        "test_threads.py::TestJoin::test_after_fork",
        "test_endings.py::test_a_fork",
    ),
    "signals": (
        "test_stop.py::TestSignals",
        "test_threads.py::TestThread::test_interrupt_from_a_signal_handler",
        "test_threads.py::TestJoin::test_ctrl_c",
        "test_downloads_stops.py::TestCtrlC",
    ),
    "dontwait": (
        "test_sockets.py::test_a_descriptor_of_others_keeps_its_mode",
        "test_sockets.py::test_a_flag_that_asks_not_to_wait_is_obeyed",
        "test_sockets.py::test_accept_on_a_listener_of_others",
        "test_sockets.py::test_close_of_a_descriptor_of_others_shuts_nothing_down",
        "test_sockets.py::test_connect_does_not_change_the_mode_of_a_descriptor_of_others",
        "test_sockets_functions.py::test_wrap_leaves_the_mode_of_the_descriptor",
        "test_sockets_functions.py::test_reading_leaves_the_mode_of_a_socket_of_others",
        "test_monkey.py::TestSockets::test_the_mode_outlasts_stops",
        "test_monkey.py::TestSockets::test_the_kernels_mode",
        "test_monkey.py::TestSockets::test_default_timeout",
        "test_monkey.py::TestAsItWas::test_the_mode_is_repaired",
    ),
    "recvmsg": (
        "test_sockets.py::test_ancillary_data_arrives_in_one_piece",
        "test_sockets.py::test_connect_and_sendto_look_names_up",
        "test_sockets.py::test_descriptors_are_passed",
        "test_sockets.py::test_nonblocking_raises_in_each_method",
        "test_sockets.py::test_sendmsg_takes_iterators",
        "test_monkey.py::TestSockets::test_sends_under_a_stop",
        "test_monkey.py::TestAsItWas::test_sockets_are_sent_to_processes",
        "test_monkey.py::TestAsItWas::test_names_of_a_programs_class",
    ),
    "fcntl": ("test_sockets.py", "test_files.py", "test_http_splice.py", "test_downloads_part.py", "test_cli_copy.py"),
}
