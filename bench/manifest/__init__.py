"""A dataset described by one YAML file: the user's own table, pictures and volumes."""

from bench.manifest.reading import ManifestFile, manifest_name, read_manifest
from bench.manifest.schema import Manifest

__all__ = ["Manifest", "ManifestFile", "manifest_name", "read_manifest"]
