"""Known secrets, one of each kind that a deployment holds, and where each may stand afterwards."""

from __future__ import annotations

import json

# Of the emulator's and Airflow's environment: a notebook that prints its own must not see them.
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "canary-aws-8f14e45fceea167a",
    "GOOGLE_APPLICATION_CREDENTIALS": "/canary/google-c9f0f895fb98ab91.json",
    "AIRFLOW__CORE__FERNET_KEY": "Y2FuYXJ5LWZlcm5ldC1rZXktb2YtMzItYnl0ZXMtISE=",
    "SOME_SERVICE_API_KEY": "canary-service-45c48cce2e2d7fbd",
}
CONNECTION_SECRET = "canary-connection-d3d9446802a44259"
MASKED_VARIABLE = "canary-variable-6512bd43d9caa6e0"  # a variable whose name has Airflow mask it
SECRET_PARAMETER = "canary-secret-parameter-c20ad4d76fe97759"  # in Secret Manager

CONNECTION = {
    "conn_type": "google_cloud_platform",
    "password": CONNECTION_SECRET,
    "extra": {"project": "emulator-project", "is_anonymous": True},
}
AIRFLOW_SETTINGS = {
    **ENVIRONMENT,
    "AIRFLOW_CONN_CANARY": json.dumps(CONNECTION),
    "AIRFLOW_VAR_CANARY_TOKEN": MASKED_VARIABLE,
}
ALL = {
    **ENVIRONMENT,
    "the connection's password": CONNECTION_SECRET,
    "the masked variable": MASKED_VARIABLE,
    "the secret parameter": SECRET_PARAMETER,
}
