def test_a_bad_model_is_not_published(nbjob_emulator, run_dag):
    nbjob_emulator.upload("notebooks", "gs://ml-team/notebooks")
    nbjob_emulator.script("score", results={"auc": 0.4})
    run = run_dag("dags/score.py")
    assert run.states == {"score": "success", "is_good": "success", "publish": "skipped"}


def test_nothing_is_published_if_the_notebook_fails(nbjob_emulator, run_dag):
    nbjob_emulator.upload("notebooks", "gs://ml-team/notebooks")
    nbjob_emulator.script("score", cell=2, error="KeyError: 'west'")
    run = run_dag("dags/score.py")
    assert run.states == {"score": "failed", "is_good": "upstream_failed", "publish": "upstream_failed"}
    assert run.jobs[0].message == "Cell 2 raised KeyError: 'west'"
