"""The notebook of a Dataform repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import TRANSIENT_CODES, InvalidJob
from airflow_provider_nbjob.hooks import permissions
from airflow_provider_nbjob.hooks.clients import dataform_client
from airflow_provider_nbjob.hooks.retrying import perform
from airflow_provider_nbjob.job import DIRECT_NAME

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

DIRECTORY_PAGES_MAX = 50  # of the files of a repository


@dataclass(frozen=True)
class DataformRepository:
    """A repository that holds a single notebook, at one commit.

    :param name: ``projects/{project}/locations/{location}/repositories/{repository}``
    :param commit_sha: empty for the head of the default branch
    :param retry: false: one attempt at each request
    """

    hook: NotebookExecutionJobHook
    name: str
    commit_sha: str
    retry: bool

    def read_notebook(self) -> bytes:
        """Return the content of the notebook.

        :raises InvalidJob: if there is no such repository or commit, or not one notebook in it
        """
        notebooks = [name for name in self._file_names() if name.endswith(".ipynb")]
        if DIRECT_NAME in notebooks:
            notebooks = [DIRECT_NAME]
        if len(notebooks) != 1:
            raise InvalidJob(
                f"dataform_repository_source: {self.name!r} is to hold a single notebook; it has {len(notebooks)}"
            )
        return bytes(self._ask("read_repository_file", permissions.READ_REPOSITORY, path=notebooks[0]).contents)

    def _file_names(self) -> list[str]:
        """Return the names of all files of the repository's top folder.

        :raises InvalidJob: if there are more than `DIRECTORY_PAGES_MAX` pages of them
        """
        names: list[str] = []
        token = ""
        for _ in range(DIRECTORY_PAGES_MAX):
            pager = self._ask("query_repository_directory_contents", permissions.LIST_REPOSITORY, page_token=token)
            page = next(iter(pager.pages))  # this page only: the pager would fetch the others without our retries
            names += [entry.file for entry in page.directory_entries if entry.file]
            if not (token := page.next_page_token):
                return names
        raise InvalidJob(f"dataform_repository_source: {self.name!r} has too many files to look for its notebook")

    def _ask(self, method: str, access: permissions.Access, **request: Any) -> Any:
        endpoint = self.hook.get_endpoint(self.name.split("/")[3])
        message = {"name": self.name, "commit_sha": self.commit_sha, **request}
        return perform(
            lambda: getattr(dataform_client(self.hook, endpoint), method)(message, timeout=30.0, retry=None),
            f"{method} of {self.name}",
            log=self.hook.log,
            codes=TRANSIENT_CODES if self.retry else (),
            not_found=InvalidJob,
            renew=lambda: dataform_client.forget(self.hook, endpoint),
            renews=self.retry,
            credentials=None if endpoint.is_plaintext else self.hook.get_credentials,
            need=permissions.Need(self.hook, access, f"the repository {self.name}"),
        )
