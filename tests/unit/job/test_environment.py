"""The environment of a job is checked against the API's own fields, without a package of Google's."""

from __future__ import annotations

import copy
from importlib.metadata import version
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import AcceleratorType, NotebookExecutionJob
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from airflow_provider_nbjob.job.environment import environment_rule, plain_environment
from airflow_provider_nbjob.job.environment_fields import CLIENT_VERSION, FIELDS
from airflow_provider_nbjob.notebook.unknown import UNKNOWN
from scripts import environment_fields

SPEC = "custom_environment_spec"
WHOLE = {
    "machine_spec": {
        "machine_type": "g2-standard-8",
        "accelerator_type": "NVIDIA_L4",
        "accelerator_count": 1,
        "tpu_topology": "2x2",
        "reservation_affinity": {
            "reservation_affinity_type": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": ["projects/p/zones/us-central1-a/reservations/r"],
        },
    },
    "persistent_disk_spec": {"disk_type": "pd-ssd", "disk_size_gb": 100},
    "network_spec": {
        "enable_internet_access": False,
        "network": "projects/p/global/networks/n",
        "subnetwork": "projects/p/regions/us-central1/subnetworks/s",
    },
}


def problems(value: Any, field: str = SPEC) -> list[str]:
    return list(environment_rule(field)(value))


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the whole environment with one value changed, or one more."""
    whole = copy.deepcopy(WHOLE)
    *parents, last = path.split(".")
    part = whole
    for parent in parents:
        part = part[parent]
    part[last] = value
    return whole


def test_the_shipped_fields_are_those_of_the_installed_client():
    """If this fails after an upgrade of google-cloud-aiplatform: scripts/environment_fields.py writes them anew."""
    installed = environment_fields.fields()
    if Version(version("google-cloud-aiplatform")) < Version(CLIENT_VERSION):
        assert _has_all(FIELDS, installed)
    else:
        assert installed == FIELDS


def _has_all(shipped, installed) -> bool:
    """Return whether the fields of a newer client have all of those of an older one."""
    if isinstance(installed, dict):
        return all(name in shipped and _has_all(shipped[name], kind) for name, kind in installed.items())
    return set(installed) <= set(shipped) if isinstance(installed, tuple) else installed == shipped


@pytest.mark.parametrize(
    "value",
    [
        WHOLE,
        {},
        {"machine_spec": {}},
        {"machine_spec": None},
        {"machine_spec": {"machine_type": None}},
        changed("machine_spec.accelerator_type", AcceleratorType.NVIDIA_L4),
        changed("machine_spec.accelerator_type", 11),
        changed("machine_spec.accelerator_count", "2"),
        changed("persistent_disk_spec.disk_size_gb", "100"),
        changed("network_spec.enable_internet_access", "True"),
        changed("machine_spec.reservation_affinity.values", ()),
    ],
)
def test_what_is_valid_makes_a_message(value):
    assert problems(value) == []
    NotebookExecutionJob({SPEC: plain_environment(value, FIELDS[SPEC])})


def test_numbers_and_booleans_that_templates_made_texts_of_are_what_they_were():
    texts = changed("machine_spec.accelerator_count", "1")
    texts["persistent_disk_spec"]["disk_size_gb"] = "100"
    texts["network_spec"]["enable_internet_access"] = "False"
    assert plain_environment(texts, FIELDS[SPEC]) == WHOLE


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("n1-standard-4", "'n1-standard-4' is not a dict with the keys machine_spec, persistent_disk_spec"),
        (["machine_spec"], "is not a dict"),
        ({"machine_typ": "n1"}, "unknown key 'machine_typ'"),
        ({"machineSpec": {}}, "unknown key 'machineSpec' (did you mean 'machine_spec'?)"),
        ({7: {}}, "unknown key 7"),
        (changed("machine_spec.machine_typ", "n1"), "machine_spec unknown key 'machine_typ' (did you mean 'machine_t"),
        (changed("machine_spec.diskSizeGb", 1), "machine_spec unknown key 'diskSizeGb'; the keys are machine_type"),
        (changed("persistent_disk_spec.size_gb", 1), "'size_gb' (did you mean 'disk_size_gb'?)"),
        (changed("machine_spec", "n1-standard-4"), "machine_spec 'n1-standard-4' is not a dict with the keys "),
        (changed("machine_spec.machine_type", 4), "machine_spec.machine_type 4 is of type int, not a text"),
        (changed("machine_spec.accelerator_type", "NVIDIA_L5"), "'NVIDIA_L5' is not one of ACCELERATOR_TYPE_"),
        (changed("machine_spec.accelerator_type", "NVIDIA_L5"), "did you mean 'NVIDIA_L4'?"),
        (changed("machine_spec.accelerator_type", "nvidia_l4"), "did you mean 'NVIDIA_L4'?"),
        (changed("machine_spec.accelerator_type", "T4"), "did you mean 'NVIDIA_TESLA_T4'?"),
        (changed("machine_spec.accelerator_type", 999), "999 is not one of"),
        (changed("machine_spec.accelerator_type", True), "True is not one of"),
        (changed("machine_spec.accelerator_type", ["NVIDIA_L4"]), "is not one of"),
        (changed("machine_spec.accelerator_count", 1.5), "accelerator_count 1.5 is not a whole number from 0 to 21"),
        (changed("machine_spec.accelerator_count", 2**31), "is not a whole number"),
        (changed("machine_spec.accelerator_count", -1), "is not a whole number"),
        (changed("machine_spec.accelerator_count", True), "is not a whole number"),
        (changed("machine_spec.accelerator_count", "one"), "'one' is not a whole number"),
        (changed("persistent_disk_spec.disk_size_gb", "100 GB"), "'100 GB' is not a whole number"),
        (changed("network_spec.enable_internet_access", "no"), "'no' is neither True nor False"),
        (changed("network_spec.enable_internet_access", 1), "1 is neither True nor False"),
        (changed("network_spec.networks", "n"), "did you mean 'network'?"),
        (changed("machine_spec.reservation_affinity.values", "r"), "reservation_affinity.values 'r' is not a list"),
        (changed("machine_spec.reservation_affinity.values", [1]), "values[0] 1 is of type int, not a text"),
        (changed("machine_spec.reservation_affinity.type", "ANY_RESERVATION"), "'reservation_affinity_type'"),
        (changed("machine_spec.reservation_affinity.reservation_affinity_type", "ANY"), "'ANY' is not one of TYPE_UN"),
        ({"shielded_instance_config": {"enable_vtpm": True}}, "set it in a runtime template, or submit"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_told_with_its_place(value, told):
    (problem,) = problems(value)
    assert told in problem


def test_a_workbench_runtime_has_no_keys():
    assert problems({}, "workbench_runtime") == []
    assert "unknown key 'vm_image'; it has no keys" in problems({"vm_image": {}}, "workbench_runtime")[0]
    assert problems(True, "workbench_runtime") == ["True is not a dict"]


def test_what_is_not_known_yet_is_not_judged_and_all_else_is():
    value = changed("machine_spec.machine_type", UNKNOWN)
    value["machine_spec"] |= {"accelerator_type": "NVIDIA_L5", "accelerator_count": UNKNOWN}
    value["network_spec"] = UNKNOWN
    assert len(problems(value)) == 1
    value["machine_spec"]["reservation_affinity"]["values"] = [UNKNOWN, 1]
    assert len(problems(value)) == 2


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
_anything = st.recursive(
    _leaf,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["machine_spec", "values", "x"]) | _leaf, inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = ["machine_spec", "machine_spec.machine_type", "machine_spec.accelerator_type", "machine_spec.accelerator_count",
         "machine_spec.reservation_affinity.values", "persistent_disk_spec.disk_size_gb",
         "network_spec.enable_internet_access"]  # fmt: skip


@given(st.sampled_from(PATHS), _anything)
def test_whatever_passes_makes_a_message(path, value):
    whole = changed(path, value)
    if not problems(whole):
        NotebookExecutionJob({SPEC: plain_environment(whole, FIELDS[SPEC])})


@given(_anything)
def test_no_value_makes_the_check_itself_fail(value):
    assert all(isinstance(problem, str) for problem in problems(value))
