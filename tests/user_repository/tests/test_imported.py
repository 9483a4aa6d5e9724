from score import dag


def test_a_good_model_is_published(nbjob_emulator, run_dag):
    nbjob_emulator.upload("notebooks", "gs://ml-team/notebooks")
    nbjob_emulator.script("score", results={"auc": 0.9})
    run = run_dag(dag)
    assert run.xcoms["publish"] == f"published {run.jobs[0].output_notebook}"
