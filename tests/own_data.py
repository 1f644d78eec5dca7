"""Small studies of one's own: tables, pictures, volumes and the manifests that describe them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data import Dataset
from bench.datasets.manifest import ManifestConfig, OwnData

N_CASES = 24


def load(path: Path, root: Path | None = None, **config: object) -> Dataset:
    """Load what a manifest describes."""
    return OwnData.of_file(path)().load(ManifestConfig.model_validate(config), root)


def write_csv(path: Path, rows: Sequence[dict[str, object]], delimiter: str = ",") -> None:
    """Write rows; a value None is a blank cell."""
    lines = [delimiter.join(rows[0])]
    for row in rows:
        lines.append(delimiter.join("" if v is None else str(v) for v in row.values()))
    path.write_text("\n".join(lines) + "\n")


def write_xlsx(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Write rows as a workbook; a value None is a blank cell."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.save(path)


def picture(path: Path, value: int, size: tuple[int, int] = (12, 10)) -> None:
    """Write a picture of noise about a grey value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(path.name.encode())
    noise = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3))
    Image.fromarray((noise + value).clip(0, 255).astype(np.uint8)).save(path)


def skin(folder: Path, change: Callable[[list[dict[str, object]]], None] | None = None) -> Path:
    """Write pictures and a table of lesions; return the manifest."""
    rows: list[dict[str, object]] = []
    for k in range(N_CASES):
        label = "malignant" if k % 2 else "benign"
        file = f"pictures/lesion{k}.png"
        picture(folder / file, 100 if k % 2 else 40)
        rows.append(
            {
                "lesion": f"lesion{k}",
                "patient": f"p{k // 4 * 2 + k % 2}",
                "diagnosis": label,
                "picture": file,
                "age": 40 + k,
                "sex": "fm"[k // 2 % 2],
                "site": ("arm", "back", "leg")[k % 3],
            }
        )
    if change:
        change(rows)
    write_csv(folder / "lesions.csv", rows)
    manifest = folder / "skin.yaml"
    manifest.write_text(
        "table: lesions.csv\ncase: lesion\nlabel: diagnosis\ngroup: patient\n"
        "modalities:\n"
        "  photo: {image: picture, size: 16}\n"
        "  clinical:\n    table: {age: numeric, sex: {f: female, m: male}, site: categorical}\n"
    )
    return manifest


def volumes(folder: Path, n_cases: int = N_CASES) -> Path:
    """Write three sequences (NIfTI and NumPy) and a table per patient; return the manifest."""
    import nibabel

    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for k in range(n_cases):
        case = f"MEN-{k:03d}"
        (folder / case).mkdir(parents=True)
        voxels = rng.normal(k % 2, 1.0, (3, 4, 8, 8)).astype(np.float32)
        for name, each in zip(("t1c", "flair"), voxels, strict=False):
            image = nibabel.Nifti1Image(each.transpose(2, 1, 0), np.eye(4))
            nibabel.save(image, folder / case / f"{case}_{name}.nii.gz")
        np.save(folder / case / f"{case}_adc.npy", voxels[2])
        rows.append(
            {
                "id": case,
                "grade": 1 + k % 2,
                "sex": k // 2 % 2,
                "age": 50 + k,
                "tumor area": 300 + 7 * k,
                "edema area": None if k % 5 == 4 else 40 + k,
                "tumor location": ("skull base", "convexity", "falx")[k % 3],
                "ADC value": 0.9 + 0.01 * k,
            }
        )
    write_csv(folder / "patients.csv", rows)
    manifest = folder / "men.yaml"
    manifest.write_text(
        "table: patients.csv\ncase: id\nn_folds: 3\n"
        "label: {column: grade, words: {1: low, 2: high}, classes: [low, high]}\n"
        "modalities:\n"
        "  t1c: {volume: '{case}/{case}_t1c.nii.gz', shape: [4, 8, 8]}\n"
        "  flair: {volume: '{case}/{case}_flair.nii.gz', shape: [4, 8, 8]}\n"
        "  adc: {volume: '{case}/{case}_adc.npy', shape: [4, 8, 8]}\n"
        "  clinical: {table: {age: numeric, tumor location: categorical}}\n"
        "templates: {tumor location: 'The {name} in the brain is {value}.'}\n"
    )
    return manifest


def kidney(folder: Path) -> Path:
    """Write pictures, free-text reports and laboratory values with gaps; return the manifest."""
    rows: list[dict[str, object]] = []
    for k in range(N_CASES):
        picture(folder / "slices" / f"K{k}.png", 90 if k % 2 else 50)
        report = ("A cystic lesion of the left kidney.", "A solid mass, right kidney.")[k % 2]
        rows.append(
            {
                "number": f"K{k}",
                "tumour": ("oncocytoma", "carcinoma")[k % 2],
                "report": None if k % 6 == 5 else report,
                "creatinine": None if k % 3 == 0 else 60 + k,
                "haemoglobin": None if k % 3 == 0 else 120 - k,
                "smoker": None if k % 4 == 0 else "yn"[k % 2],
            }
        )
    write_xlsx(folder / "kidneys.xlsx", rows)
    manifest = folder / "kidney.yaml"
    manifest.write_text(
        "table: kidneys.xlsx\ncase: number\nlabel: tumour\nn_folds: 3\n"
        "modalities:\n"
        "  ct: {image: 'slices/{case}.png', size: 16, channels: 1}\n"
        "  report:\n"
        "    report: report\n"
        "    rules: {texture: {values: {cystic: [cystic], solid: [solid, mass]}}, "
        "side: {values: [left, right]}}\n"
        "  laboratory: {vector: [creatinine, haemoglobin]}\n"
        "  history: {table: {smoker: {y: 'yes', n: 'no'}}}\n"
    )
    return manifest


def reported(folder: Path) -> Path:
    """Write pictures and free-text reports; return the manifest."""
    rows: list[dict[str, object]] = []
    for k in range(N_CASES):
        picture(folder / "photos" / f"photo{k}.png", 90 if k % 2 else 50)
        side = ("left", "right")[k // 2 % 2]
        report = f'"Lesion of the {side} hand, {("smooth", "irregular")[k % 3 // 2]} border."'
        rows.append({"photo": f"photo{k}", "label": "ab"[k % 2], "report": report})
    write_csv(folder / "reports.csv", rows)
    manifest = folder / "hands.yaml"
    manifest.write_text(
        "table: reports.csv\ncase: photo\nlabel: label\nn_folds: 3\n"
        "modalities:\n"
        "  photo: {image: 'photos/{case}.png', size: 16}\n"
        "  report: {report: report}\n"
    )
    return manifest
