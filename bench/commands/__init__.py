"""The commands of `bench`, each subject in a file; `bench.cli` puts them together."""
