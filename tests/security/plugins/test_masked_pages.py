"""What Airflow masks in a task's rendered arguments is shown nowhere: neither on its tab nor in its notebook."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.security.plugins.site import QUERY, RENDERED, cell, notebook, printed, record_of

pytestmark = pytest.mark.test_all

SECRET = "hunter2-hunter2"
INJECTED = ("injected-parameters",)


def put(site, passed, rendered, *outputs, source=None, fields=None, **changes):
    """Add a task with a job whose notebook was passed parameters, and what Airflow shows of these."""
    code = source if source is not None else "\n".join(f"{name} = {value!r}" for name, value in passed.items())
    cells = [cell(code, tags=INJECTED), cell("go()", *outputs)]
    site.job(notebook=notebook(*cells, parameters=passed), **changes)
    site.task(record_of(site.name()), fields={"parameters": rendered} if fields is None else fields)


def pages(site, **options):
    return [site.shown(path, **options) for path in ("task", "notebook")]


def assert_hidden(site, *secrets, clear=()):
    for page in pages(site):
        for secret in secrets:
            assert secret not in page.replace("</span>", "").replace("<span>", "")
    for text in clear:
        assert text in "".join(pages(site))


@pytest.mark.parametrize(
    ("passed", "rendered", "secrets"),
    [
        ({"a": SECRET}, {"a": "***"}, [SECRET]),
        ({"url": f"pg://me:{SECRET}@host/db"}, {"url": "pg://me:***@host/db"}, [SECRET]),
        ({"a": {"b": [{"c": SECRET}, "clear-value"]}}, {"a": {"b": [{"c": "***"}, "clear-value"]}}, [SECRET]),
        ({"a": ["first-secret", "second-secret"]}, {"a": ["***", "***"]}, ["first-secret", "second-secret"]),
        ({"a": 987654321}, {"a": "***"}, ["987654321"]),
        ({"a": [1, 987654321]}, {"a": [1, "***"]}, ["987654321"]),
        ({"a": {"inner": SECRET}}, {"a": "***"}, [SECRET]),
        ({"a": SECRET, "b": "clear-value"}, "***", [SECRET, "clear-value"]),
        ({"a": "t" * 900 + SECRET}, {"a": "***"}, [SECRET, "t" * 50]),
    ],
)
def test_a_value_that_airflow_masks_is_shown_nowhere(site, passed, rendered, secrets):
    result = {"output_type": "execute_result", "data": {"text/plain": repr(passed)}, "metadata": {}}
    put(site, passed, rendered, printed(str(passed)), printed(json.dumps(passed)), result)
    assert_hidden(site, *secrets)


def test_a_value_that_is_too_short_to_be_searched_is_hidden_in_its_own_place(site):
    put(site, {"a": "x1", "b": [True, "x2"]}, {"a": "***", "b": [True, "***"]})
    assert_hidden(site, "'x1'", '"x1"', "'x2'", '"x2"')


def test_what_airflow_shows_is_shown(site):
    passed = {"day": "2026-01-01", "n": 12345, "token": SECRET, "list": ["clear-value", SECRET]}
    put(site, passed, {**passed, "token": "***", "list": ["clear-value", "***"]}, printed("12345 clear-value"))
    assert_hidden(site, SECRET, clear=["2026-01-01", "12345", "clear-value"])
    page = site.shown()
    assert '"2026-01-01"' in page
    assert page.count('"***"') == 2


@pytest.mark.parametrize("name", ["password", "db_password", "API_KEY", "accessToken_token", "my secret"])
@pytest.mark.parametrize("fields", [None, {}])
def test_a_value_under_a_secret_s_name_is_hidden_even_where_airflow_says_nothing(site, name, fields):
    key = name.replace(" ", "_")
    put(site, {"conn": {key: SECRET}}, {"conn": {key: "***"}}, printed(SECRET), source="", fields=fields)
    if fields == {}:
        assert SECRET not in site.shown()
        return  # without its arguments nobody is asked about a job
    assert_hidden(site, SECRET)


def test_of_a_job_whose_parameters_another_task_passed_it_is_said_what_is_hidden(site):
    passed = {"password": SECRET, "other": "clear-value"}
    named = {"notebook_execution_job": site.job_id()}
    site.job(notebook=notebook(cell("", printed(f"{SECRET} clear-value"), tags=INJECTED), parameters=passed))
    site.task(record_of(site.name()), fields=named)
    with site.engine.begin() as connection:
        fields = connection.execute(RENDERED.select()).one().rendered_fields
        without = {name: value for name, value in fields.items() if name != "parameters"}
        connection.execute(RENDERED.update().values(rendered_fields=without))
    assert_hidden(site, SECRET, clear=["clear-value", "Airflow does not say which of the values"])


FORMS = [
    lambda secret: secret,
    repr,
    ascii,
    json.dumps,
    lambda secret: json.dumps(json.dumps({"k": secret})),
    html.escape,
    lambda secret: quote(secret, safe=""),
    lambda secret: repr(secret.encode()),
    lambda secret: f"\x1b[31m{secret}\x1b[0m",
    lambda secret: f"<b>{html.escape(secret)}</b>",
]


@pytest.mark.parametrize("secret", ['it\'s-a-"quote"', "back\\slash\\value", "ünïcode-sécret", "a&b<c>d e"])
def test_a_secret_is_found_however_it_is_spelt(site, secret):
    outputs = []
    for form in FORMS:
        text = form(secret)
        outputs += [
            printed(f"before {text} after"),
            {"output_type": "display_data", "data": {"text/html": f"<p>{text}</p>"}, "metadata": {}},
            {"output_type": "display_data", "data": {"application/json": {"x": [text], text: 1}}, "metadata": {}},
            {"output_type": "error", "ename": "E", "evalue": text, "traceback": [f"E: {text}"]},
        ]
    put(site, {"a": secret}, {"a": "***"}, *outputs, state="FAILED")
    for page in pages(site):
        assert secret not in page
        assert secret not in html.unescape(page)
        assert "***" in page


def test_a_secret_that_is_written_in_pieces_is_found(site):
    half = len(SECRET) // 2
    traced = {"output_type": "error", "ename": "E", "evalue": "x"}
    colored = f"{SECRET[:half]}\x1b[0m\x1b[1;31m{SECRET[half:]}"
    outputs = [
        printed(SECRET[:half]),
        {"output_type": "stream", "name": "stdout", "text": [SECRET[half:], "\n"]},
        {**traced, "traceback": [colored]},
    ]
    put(site, {"a": SECRET}, {"a": "***"}, *outputs)
    page = site.shown("notebook")
    assert SECRET[half:] not in page


def test_a_key_of_many_lines_is_hidden_line_by_line(site):
    key = "-----BEGIN KEY-----\nMIIEvgIBADANBg\nkqhkiG9w0BAQEFAASC\n-----END KEY-----\n"
    put(site, {"a": key}, {"a": "***"}, printed("the line kqhkiG9w0BAQEFAASC is bad"), printed(repr(key)))
    assert_hidden(site, "kqhkiG9w0BAQEFAASC", "MIIEvgIBADANBg")


def test_parameters_that_airflow_cuts_are_hidden_beyond_the_cut(site):
    passed = {"a": "clear-value", "b": "y" * 5000, "z": SECRET}
    cut = "Truncated. You can change this behaviour in [core]max_templated_field_length. " + str({**passed, "z": "***"})
    put(site, passed, f"{cut[:4000]}... ", printed(f"{SECRET} clear-value"))
    assert_hidden(site, SECRET, clear=["clear-value"])


@pytest.mark.parametrize("language", ["R", "julia", "bash"])
def test_a_cell_in_another_language_hides_its_values_too(site, language):
    put(site, {"a": SECRET}, {"a": "***"}, printed(SECRET), source=f'# Parameters\na = "{SECRET}" |> {{\n')
    assert_hidden(site, SECRET)


def test_an_earlier_try_s_notebook_hides_its_own_value(site):
    put(site, {"a": "old-secret-1"}, {"a": "***"}, printed("old-secret-1"))
    assert_hidden(site, "old-secret-1")


def test_the_source_of_a_job_that_runs_has_no_secrets(site):
    source = notebook(cell(f"a = '{SECRET}'", tags=INJECTED), cell("go()"), parameters={"a": SECRET})
    site.job(state="RUNNING", direct_notebook_source={"content": json.dumps(source).encode()})
    site.task(record_of(site.name()), fields={"parameters": {"a": "***"}}, state="deferred")
    assert_hidden(site, SECRET, clear=["go"])


def test_facts_errors_and_messages_have_no_secrets(site):
    raised = {"output_type": "error", "ename": "E", "evalue": f"bad {SECRET}", "traceback": []}
    put(
        site,
        {"a": SECRET},
        None,
        raised,
        fields={"parameters": {"a": "***"}, "display_name": "run of ***", "labels": {"key": "***"}},
        state="FAILED",
        display_name=f"run of {SECRET}",
        labels={"key": SECRET},
        status={"code": 3, "message": f"it said {SECRET}"},
    )
    assert_hidden(site, SECRET, clear=["run of ***"])


def test_what_airflow_s_masker_knows_on_the_api_server_is_hidden(site, airflow_masks):
    airflow_masks(SECRET)
    raised = {"output_type": "error", "ename": "E", "evalue": SECRET, "traceback": [SECRET]}
    put(site, {"a": "x"}, {"a": "x"}, printed(SECRET), raised, state="FAILED", display_name=f"of {SECRET}")
    assert_hidden(site, SECRET)
    end = {"job_state": "JOB_STATE_FAILED", "failed_cell": {"number": 1, "ename": "E", "evalue": SECRET}}
    site.task(record_of(site.name(), **end), dag_id="recorded")
    site.people.known["admin"].reads["recorded"] = frozenset({"DAG", "TASK_INSTANCE", "XCOM", "TASK_LOGS"})
    assert SECRET not in site.shown("", query="")


def test_one_rendering_is_not_shown_for_another_task_s_secrets(site):
    name = site.job(notebook=notebook(cell("go()", printed(SECRET)), parameters={"a": SECRET}))
    job_id = name.rpartition("/")[2]
    for index, shown in enumerate((SECRET, "***")):
        fields = {"notebook_execution_job": job_id, "parameters": {"a": shown}}
        site.task(record_of(name), fields=fields, map_index=index)
    for index in (0, 1, 0, 1):
        page = site.shown("notebook", query=f"{QUERY}&map_index={index}")
        assert (SECRET in page) == (index == 0)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=30), st.sampled_from(FORMS[:8]))
def test_no_secret_is_left_of_its_forms(secret, form):
    from airflow_provider_nbjob.plugins.notebook_jobs.hidden import Hidden

    text = f"before {form(secret)} after"
    shown = Hidden.of({"a": "***"}, {"a": secret}, "").text(text)
    assert secret not in shown or secret in "before *** after"
