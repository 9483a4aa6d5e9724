"""What gcloud 528 sends, its paths, queries and bodies as recorded, only with bucket names of a lawful length."""

from __future__ import annotations

import base64

import httpx

from tests.support.emulator_jobs import notebook
from tests.support.patience import wait_until

CONTENT = base64.b64encode(notebook("1 + 1")).decode()
GCLOUD_JOBS = "/v1beta1/projects/my-proj/locations/us-central1/notebookExecutionJobs"
GCLOUD_TEMPLATE = "projects/my-proj/locations/us-central1/notebookRuntimeTemplates/rt1"


def test_the_request_of_a_sync_create_is_answered(http: httpx.Client) -> None:
    body = {
        "displayName": "d1",
        "executionTimeout": "5400s",
        "gcsOutputUri": "gs://bkt/results",
        "directNotebookSource": {"content": CONTENT},
        "notebookRuntimeTemplateResourceName": GCLOUD_TEMPLATE,
        "serviceAccount": "sa@my-proj.iam.gserviceaccount.com",
    }
    operation = http.post(f"{GCLOUD_JOBS}?alt=json", json=body).raise_for_status().json()
    polled = wait_until(
        lambda: (o := http.get(f"/v1beta1/{operation['name']}?alt=json").json()).get("done") and o,
        timeout=40,
        what="the operation done",
    )
    assert polled["response"]["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1beta1.NotebookExecutionJob"
    assert polled["response"]["executionTimeout"] == "5400s"
    assert polled["response"]["jobState"] == "JOB_STATE_FAILED"  # there is no such bucket
    assert "error" not in polled


def test_the_requests_of_async_create_describe_list_and_delete_are_answered(http: httpx.Client) -> None:
    body = {
        "displayName": "d2",
        "executionTimeout": "86400s",
        "executionUser": "u@example.com",
        "gcsNotebookSource": {"generation": "123", "uri": "gs://bkt/n.ipynb"},
        "gcsOutputUri": "gs://bkt/results",
        "notebookRuntimeTemplateResourceName": GCLOUD_TEMPLATE,
    }
    operation = http.post(f"{GCLOUD_JOBS}?alt=json&notebookExecutionJobId=my-id-1", json=body).raise_for_status().json()
    job = operation["name"].partition("/operations/")[0]
    assert job.endswith("/notebookExecutionJobs/my-id-1")
    described = http.get(f"{GCLOUD_JOBS}/my-id-1?alt=json").json()
    assert (described["name"], described["gcsNotebookSource"]) == (job, body["gcsNotebookSource"])
    assert http.get(f"{GCLOUD_JOBS}?alt=json&pageSize=1").json()["notebookExecutionJobs"][0]["name"] == job
    deletion = http.delete(f"{GCLOUD_JOBS}/my-id-1?alt=json").json()
    assert http.get(f"/v1beta1/{deletion['name']}?alt=json").json()["done"] is True


def test_the_request_of_a_workbench_create_is_answered(http: httpx.Client) -> None:
    body = {
        "displayName": "d3",
        "directNotebookSource": {"content": CONTENT},
        "executionTimeout": "86400s",
        "gcsOutputUri": "gs://bkt/results",
        "kernelName": "python3",
        "serviceAccount": "sa@my-proj.iam.gserviceaccount.com",
        "workbenchRuntime": {},
        "customEnvironmentSpec": {
            "machineSpec": {},
            "networkSpec": {"enableInternetAccess": True},
            "persistentDiskSpec": {"diskSizeGb": "100", "diskType": "pd-standard"},
        },
    }
    job = http.post(f"{GCLOUD_JOBS}?alt=json", json=body).raise_for_status().json()["name"].partition("/operations/")[0]
    shown = http.get(f"/v1beta1/{job}?alt=json").json()
    assert shown["kernelName"] == "python3"
    assert "workbenchRuntime" not in shown
