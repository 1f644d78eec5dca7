"""The executors that come with the package, one file each; `bench.executor` is their contract."""
