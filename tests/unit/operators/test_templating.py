"""Templates: what Airflow renders, what it leaves alone, and what is checked before and after."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from airflow.sdk import DAG, literal
from airflow.sdk.bases.operator import BaseOperator

from airflow_provider_nbjob.arguments.templates import known
from airflow_provider_nbjob.arguments.templating import untemplated
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator
from tests.support.fake_google import REPOSITORY, FakeGoogle
from tests.support.fake_service import OUTPUT
from tests.support.notebooks import code, notebook
from tests.support.tasks import arguments, make_context

URI = "gs://bucket/reports/daily.ipynb"
CONTENT = notebook(code("'{{ ds }} {% raw %}'"))


@pytest.fixture
def google(monkeypatch) -> FakeGoogle:
    return FakeGoogle(monkeypatch)


def operator(**changes: Any) -> CreateNotebookExecutionJobOperator:
    values = {"gcs_notebook_source": None, "gcs_output_uri": OUTPUT, "wait_for_completion": False, **changes}
    return CreateNotebookExecutionJobOperator(**arguments(**values))


def run(fields: dict[str, Any], *, native: bool = True, **variables: Any) -> dict[str, Any]:
    """Make an operator in a DAG, render its templates as Airflow does, and execute it.

    :param variables: what its templates may name
    """
    with DAG(dag_id="d", render_template_as_native_obj=native):
        task = operator(**fields)
    context = {**make_context("r"), **variables}
    task.render_template_fields(context)
    return task.execute(context)


def pulled_from_xcom() -> Any:
    """The output of another task, as an argument."""
    with DAG(dag_id="d"):
        return BaseOperator(task_id="upstream").output


# --- one value ---


@pytest.mark.parametrize("content", [CONTENT.decode(), "\n  " + CONTENT.decode(), json.loads(CONTENT)])
def test_a_notebook_is_bytes_which_airflow_does_not_render(content):
    kept = untemplated(content)
    assert isinstance(kept, bytes)
    assert json.loads(kept) == json.loads(CONTENT)


@pytest.mark.parametrize(
    "source",
    [
        "notebooks/daily.ipynb",
        "",
        "{{ params.notebook }}",
        " {{ params.notebook }}",
        "notebooks/{{ params.name }}.ipynb",
        CONTENT,
        b"",
        "{% if prod %}a.ipynb{% else %}b.ipynb{% endif %}",
        "{# the daily one #}daily.ipynb",
        "\n {%- if prod -%} a.ipynb {%- endif -%}",
        None,
        7,
    ],
)
def test_what_is_no_notebook_stays_what_it_is(source):
    assert untemplated(source) is source


@pytest.mark.parametrize("path", [Path("daily.ipynb"), Path("/dags/daily.ipynb"), PurePosixPath("a/daily.ipynb")])
def test_a_path_is_a_text_which_airflow_does_not_resolve(path):
    assert untemplated(path) == str(path)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_holds_bytes_is_bytes(kind):
    assert untemplated(kind(CONTENT)) == CONTENT


def test_the_output_of_another_task_stays_what_it_is():
    output = pulled_from_xcom()
    assert untemplated(output) is output


class Nested:
    """An object with templates of its own, such as Airflow renders."""

    template_fields = ("uri",)


def is_templated(value) -> bool:
    """Return whether anything in a value is known only when the task runs."""
    return known(value) is not value


@pytest.mark.parametrize(
    "value",
    [
        "{{ ds }}",
        "gs://bucket/{{ ds }}/n.ipynb",
        "{% if prod %}a{% endif %}",
        ["a", "{{ ds }}"],
        ("a", ("{{ ds }}",)),
        {"uri": "{{ ds }}"},
        {"a": [{"b": ("{{ ds }}",)}]},
        lambda context, _: context["ds"],
        Nested(),
        [Nested()],
        literal("{{ ds }}"),
        "{# a comment #}",
        {"gs://bucket/{{ ds }}"},
        frozenset({("{{ ds }}",)}),
        [{"a": {"{{ ds }}"}}],
    ],
)
def test_a_value_that_only_the_run_knows(value):
    assert is_templated(value)


def test_the_output_of_another_task_is_known_only_to_the_run():
    assert is_templated(pulled_from_xcom())
    assert is_templated({"uri": [pulled_from_xcom()]})


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "text with { braces } and }}",
        "gs://bucket/n.ipynb",
        0,
        1.5,
        True,
        b"{{ ds }}",
        CONTENT,
        [],
        {},
        {"{{ ds }}": "a key is not rendered"},
        [{"a": ("b", None)}],
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        timedelta(hours=1),
        {1: 2},
        {"a", 1},
        Path("daily.ipynb"),
        [Path("daily.ipynb")],
        object(),
    ],
)
def test_a_value_that_is_known_when_the_dag_is_parsed(value):
    assert not is_templated(value)


# --- the operator, when its DAG is parsed ---


def test_what_is_no_template_is_checked_at_once_beside_templates():
    with pytest.raises(InvalidJob) as raised:
        operator(
            gcs_notebook_source="{{ ds }}", location="nowhere", labels={"{{ ds }}": "Upper"}, kernel_name="{% a %}"
        )
    assert sorted(problem.partition(":")[0] for problem in raised.value.problems) == [
        "labels",
        "labels",
        "location",
    ]


def test_a_template_may_stand_anywhere():
    operator(
        gcs_notebook_source={"uri": "{{ ds }}", "generation": "{{ ds }}"},
        parameters={"x": ["{{ ds }}", {"y": "{{ ds }}"}]},
        labels={"a": "{{ ds }}"},
        location="{{ ds }}",
        encryption_spec="{{ ds }}",
        job_timeout="{{ ds }}",
    )


def test_two_sources_may_stand_beside_each_other_if_one_is_a_template():
    operator(gcs_notebook_source="{{ params.gcs }}", direct_notebook_source="n.ipynb")
    with pytest.raises(InvalidJob, match=r"exactly one of .* is allowed, 2 were given"):
        operator(gcs_notebook_source=URI, direct_notebook_source="n.ipynb")


# --- the operator, when its templates are rendered ---


def test_a_rendered_source_is_submitted(google):
    run(
        {"gcs_notebook_source": {"uri": "gs://bucket/{{ day }}.ipynb", "generation": "{{ number }}"}}, day="a", number=7
    )
    (submitted,) = google.service.submitted
    assert submitted.gcs_notebook_source.uri == "gs://bucket/a.ipynb"
    assert submitted.gcs_notebook_source.generation == "7"


@pytest.mark.parametrize("chosen", ["gcs_notebook_source", "dataform_repository_source"])
def test_a_source_that_renders_to_none_is_not_given(google, chosen):
    values = {"gcs_notebook_source": URI, "dataform_repository_source": REPOSITORY}
    variables = {name: value if name == chosen else None for name, value in values.items()}
    run({name: f"{{{{ {name} }}}}" for name in values}, **variables)
    (submitted,) = google.service.submitted
    uri, repository = (
        submitted.gcs_notebook_source.uri,
        submitted.dataform_repository_source.dataform_repository_resource_name,
    )
    assert [uri, repository] == [values[name] if name == chosen else "" for name in values]


@pytest.mark.parametrize(
    ("gcs", "direct", "problem"),
    [
        (None, None, "exactly one is required, none was given"),
        (URI, "n.ipynb", "exactly one of .* is allowed, 2 were given"),
        ("", None, "gcs_notebook_source: '' is not of the form"),
        ("None", None, "exactly one is required, none was given"),
        ("{{ again }}", None, "is not of the form gs://bucket/notebook.ipynb"),  # what was rendered is not again
    ],
)
def test_what_templates_come_to_is_checked_before_the_submit(google, gcs, direct, problem):
    fields = {"gcs_notebook_source": "{{ gcs }}", "direct_notebook_source": "{{ direct }}"}
    with pytest.raises(InvalidJob, match=problem):
        run(fields, gcs=gcs, direct=direct)
    assert google.service.submitted == []


def test_none_is_a_text_where_templates_come_to_texts(google):
    with pytest.raises(InvalidJob, match="gcs_notebook_source: 'None' is not of the form"):
        run({"gcs_notebook_source": "{{ nothing }}"}, native=False, nothing=None)
    assert google.service.submitted == []


@pytest.mark.parametrize("parameters", [None, {}])
def test_parameters_that_render_to_nothing_are_none(google, parameters):
    run({"gcs_notebook_source": URI, "parameters": "{{ given }}"}, given=parameters)
    (submitted,) = google.service.submitted
    assert submitted.gcs_notebook_source.uri == URI
    assert google.storage.requests == []


@pytest.mark.parametrize("parameters", ["a text", [1], 7])
def test_parameters_that_render_to_no_mapping_are_refused(google, parameters):
    with pytest.raises(InvalidJob, match=r"parameters: .* is not a mapping of names to values"):
        run({"gcs_notebook_source": URI, "parameters": "{{ given }}"}, given=parameters)
    assert google.service.submitted == []


def test_parameters_are_rendered_deep_inside_and_as_what_they_are(google):
    google.storage.put(URI, notebook(code()))
    values = {"list": ["{{ count }}", {"day": "{{ day }}"}], "none": "{{ nothing }}", "braces": "{ {"}
    run({"gcs_notebook_source": URI, "parameters": values}, count=3, day="2024-05-06", nothing=None)
    (submitted,) = google.service.submitted
    told = json.loads(submitted.direct_notebook_source.content)["metadata"]["nbjob"]["parameters"]
    assert told == {"list": [3, {"day": "2024-05-06"}], "none": None, "braces": "{ {"}


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("content", [CONTENT, CONTENT.decode(), json.loads(CONTENT)])
def test_braces_in_a_notebook_are_no_templates(google, content, native):
    run({"direct_notebook_source": content}, native=native, ds="2024-05-06")
    (submitted,) = google.service.submitted
    assert json.loads(submitted.direct_notebook_source.content) == json.loads(CONTENT)


@pytest.mark.parametrize("form", [dict, str])
def test_a_template_may_come_out_as_a_notebook(google, form):
    given = json.loads(CONTENT) if form is dict else CONTENT.decode()
    run({"direct_notebook_source": "{{ given }}"}, native=form is dict, given=given)
    (submitted,) = google.service.submitted
    assert json.loads(submitted.direct_notebook_source.content) == json.loads(CONTENT)


def test_a_template_may_come_out_as_the_path_of_a_notebook(google, tmp_path):
    (tmp_path / "a.ipynb").write_bytes(CONTENT)
    run({"direct_notebook_source": "{{ folder }}/{{ name }}.ipynb"}, folder=str(tmp_path), name="a")
    (submitted,) = google.service.submitted
    assert submitted.direct_notebook_source.content == CONTENT
