"""Settings whose topics nobody else uses, on the session's real Kafka."""

import secrets

import pytest

from schemas.settings import Settings


@pytest.fixture
def own_settings(kafka: str) -> Settings:
    """Settings of an application of its own, with topics of its own; none exists yet."""
    app = f"test-{secrets.token_hex(4)}"
    names = {
        "observations": f"{app}.readings",
        "truths": f"{app}.truths",
        "commands": f"{app}.commands",
        "predictions": f"{app}.predictions",
        "outcomes": f"{app}.outcomes",
        "memories": f"{app}.memories",
        "dead_letters": f"{app}.dead",
    }
    return Settings(app=app, kafka={"bootstrap_servers": kafka}, topics=names)
