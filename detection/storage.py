"""Model folders on disk: JSON and safetensors, written whole or not at all, checked when read."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from detection.errors import ModelError

DESCRIPTION_FILES = ("inspector.json", "padim.json")
"""What the models of a part and of a view are recognised by."""

READABLE = 0o644
"""Rights of tensor files: safetensors would let only their owner read them."""

_File = TypeVar("_File", bound=BaseModel)

_DTYPES = {"BOOL": np.bool_, "F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8, "U16": np.uint16}


@contextmanager
def new_folder(target: Path, *, marker: str) -> Iterator[Path]:
    """Write a folder as a whole.

    Parameters
    ----------
    target : Path
        Where the folder shall be. An earlier model there is replaced, anything else is refused.
    marker : str
        File by which a model is recognised.

    Yields
    ------
    Path
        An empty folder beside `target`, renamed to it at the end and removed when anything fails.

    Raises
    ------
    ModelError
        When the place is taken or cannot be written.
    """
    target = target.resolve()
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    replaced = temporary.with_name(f"{temporary.name}.replaced")
    try:
        if target.exists() and not (target / marker).is_file() and not _is_empty_folder(target):
            raise ModelError(f"{target}: exists and is not a model; choose another place or remove it")
        foreign = [path for path in target.rglob("*") if path.is_file() and not _is_of_a_model(path)]
        if foreign:
            raise ModelError(f"{foreign[0]}: is no part of a model and would be lost; move it, or choose another place")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(replaced)
        temporary.rename(target)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{target}: cannot be written ({error}); check the disk and your rights") from error
    finally:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def sha256_of_file(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal text; `ModelError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); copy or train the model again") from error


def write_json(path: Path, content: BaseModel) -> None:
    """Write a pydantic model as JSON; `ModelError` when a number in it is not finite."""
    try:
        text = json.dumps(content.model_dump(mode="json"), indent=2, allow_nan=False)
    except ValueError as error:
        raise ModelError(f"{path.name}: contains a number that is not finite; nothing was written") from error
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, kind: type[_File]) -> _File:
    """Read JSON and check it.

    Parameters
    ----------
    path : Path
        File.
    kind : type
        Pydantic model that describes what must stand in it.

    Returns
    -------
    kind
        The content.

    Raises
    ------
    ModelError
        When the file is missing, no JSON, or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        return kind.model_validate(content)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); is this a model folder?") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"]) or "the file"
        raise ModelError(f"{path}: {where}: {first['msg']}; not a model of this version, train it again") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}); copy the model again") from error


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as safetensors."""
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    path.chmod(READABLE)


def read_tensors(path: Path, expected: Mapping[str, tuple[tuple[int, ...], type]]) -> dict[str, NDArray[Any]]:
    """Read named arrays.

    Parameters
    ----------
    path : Path
        A safetensors file.
    expected : mapping
        Name → shape and NumPy type of each array that must be there; nothing else may.

    Returns
    -------
    dict
        Name → array.

    Raises
    ------
    ModelError
        When the file is missing, damaged, or holds something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            if set(file.keys()) != set(expected):
                raise ModelError(
                    f"{path}: holds {sorted(file.keys())}, expected {sorted(expected)}; not this model's file"
                )
            for name, (shape, dtype) in expected.items():
                entry = file.get_slice(name)
                found = tuple(entry.get_shape()), _DTYPES.get(entry.get_dtype())
                if found != (shape, dtype):
                    raise ModelError(
                        f"{path}: {name} is {entry.get_dtype()} {found[0]}, expected {dtype.__name__} "
                        f"{shape}; not this model's file"
                    )
            # PyTorch's reader maps the file: pages are read when they are used and shared between processes.
            return {name: file.get_tensor(name).numpy() for name in expected}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: missing, truncated or foreign ({error}); copy or train the model again") from error


def _is_of_a_model(path: Path) -> bool:
    return path.suffix == ".safetensors" or path.name in DESCRIPTION_FILES


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
