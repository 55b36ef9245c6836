"""The payloads of ADR 001 as OpenCode's models have them: strict types, no `null` where a field is left out."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A text is no number and `null` is no text; a field that is not named here is passed over."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Registration(Strict):
    protocol_version: str = "1.0"
    name: str = Field(pattern=r"^AGENT-[A-Z0-9_-]+$", min_length=3, max_length=100)
    version: str = "1.0.0"
    agent_type: str = "implementer"
    capabilities: list[str] = Field(min_length=1)
    endpoint_url: str | None = None
    metadata: dict[str, Any] = {}


class Registered(Strict):
    agent_id: str = Field(min_length=1)
    status: Literal["registered"]
    auth_token: str = Field(min_length=16)
    heartbeat_interval_seconds: int = Field(ge=1)


class Heartbeat(Strict):
    status: Literal["healthy", "degraded", "busy"]
    current_load: float = Field(ge=0, le=1)
    metrics: dict[str, float | int | str] = {}


class Assignment(Strict):
    task_id: UUID = Field(strict=False)
    task_type: str = "task"
    context: dict[str, Any] = {}
    input: str = Field(min_length=1)
    requirements: list[str] = []
    timeout_seconds: int = Field(default=3600, ge=1)


class Artifact(Strict):
    path: str
    content: str
    mime_type: str = "text/plain"


class Result(Strict):
    task_id: UUID = Field(strict=False)
    status: Literal["completed", "failed"]
    artifacts: list[Artifact] = []
    output_data: dict[str, Any] = {}
    error_message: str = ""
    execution_time_ms: float = Field(default=0, ge=0)
    tokens_used: int = Field(default=0, ge=0)
    cost_usd: float = Field(default=0, ge=0)
