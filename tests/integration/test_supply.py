"""The bill of materials of what is really installed."""

from __future__ import annotations

import pytest

from tools import supply


@pytest.mark.thorough
def test_the_bill_of_what_is_installed_is_one_by_the_standard() -> None:
    made = supply.sbom()
    names = {component["name"] for component in made["components"]}
    assert names > {"SQLAlchemy", "kafka-python", "aiokafka"}
    assert "pytest" not in names
    assert all("hashes" in component["externalReferences"][-1] for component in made["components"])
    assert supply.valid(made) == []
