"""What `dask` is made of: the stop of a cluster, and the downloads across its workers."""
