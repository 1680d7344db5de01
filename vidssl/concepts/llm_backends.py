"""The back-ends by name, for whoever has the choice as text."""

from __future__ import annotations

import inspect
from typing import Any

from vidssl.concepts.llm_echo import EchoBackend
from vidssl.concepts.llm_files import FileBackend
from vidssl.concepts.llm_openai import OpenAIBackend
from vidssl.concepts.llm_request import Backend
from vidssl.errors import NAMED, VidsslError, check_choice, did_you_mean

BACKENDS = ("transformers", "openai", "file", "echo")


def make_backend(kind: str, **options: Any) -> Backend:
    """A back-end from its name and its arguments; arguments that are None count as not given.

    Raises:
        VidsslError: for an unknown name, or an argument that this back-end lacks or does not have.
    """
    check_choice("backend", kind, BACKENDS, NAMED)
    given = {key: value for key, value in options.items() if value is not None}
    factories: dict[str, Any] = {"openai": OpenAIBackend, "file": FileBackend, "echo": EchoBackend}
    if kind == "transformers":
        from vidssl.concepts.llm_transformers import TransformersBackend  # imports torch

        factories[kind] = TransformersBackend
    parameters = inspect.signature(factories[kind]).parameters
    unknown = [key for key in given if key not in parameters]
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in given]
    if unknown:
        raise VidsslError(
            f"backend {kind}: {unknown[0]} is not for it{did_you_mean(unknown[0], parameters)}"
            f" ({', '.join(parameters) or 'it takes nothing'})"
        )
    if missing:
        raise VidsslError(f"backend {kind}: needs {' and '.join(missing)}")
    backend: Backend = factories[kind](**given)
    return backend
