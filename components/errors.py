"""One exception root. Every user-facing error says what was wrong, where, and what to do."""

from __future__ import annotations


class OpsinError(ValueError):
    """A mistake a user can mend. The CLI prints it without a traceback.

    Args:
        what: What was wrong, in one sentence.
        where: The file, key, sample or host it was found in.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if fix:
            lines.append(f"  to do: {fix}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[OpsinError], what: str, where: str, fix: str) -> OpsinError:
    return kind(what, where=where, fix=fix)


class ConfigError(OpsinError):
    """A configuration that cannot be run: unknown key, value out of range, source that does not exist."""


class SourceError(OpsinError):
    """A data source that cannot be fetched or read."""


class GateFailed(OpsinError):
    """A gate did not pass; the flow stops here. What was rejected is kept."""


class ContractMismatch(OpsinError):
    """Two sides of a hand-over disagree (processor, chat template, tokenizer, dataset version)."""


class ArtifactMissing(OpsinError):
    """An artifact or record that a reference names is not in the workspace."""


class ServerError(OpsinError):
    """A server that opsin starts (vLLM, Caddy) did not come up, or died."""
