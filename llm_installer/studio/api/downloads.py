"""What can be downloaded of a job: its data, the files of its result, its adapter as one zip file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from starlette.responses import FileResponse, Response, StreamingResponse

from llm_installer.studio import blobs
from llm_installer.studio.context import Studio
from llm_installer.studio.options import VALIDATION
from llm_installer.studio.results import ADAPTER, ResultFile, files_of
from llm_installer.studio.store import files, jobs
from llm_installer.studio.store.refusals import Unknown

BINARY = "application/octet-stream"


def data_file(studio: Studio, job_id: str, validation: bool = False) -> Response:
    """The data of a job. Raises Unknown and Gone."""
    with studio.store.reading() as session:
        job = jobs.find(session, job_id)
        wanted = job.options.get(VALIDATION) if validation else job.file_id
        if not wanted:
            raise Unknown(f"Job {job_id} has no such file any more")
        found = files.find(session, str(wanted))
    return FileResponse(files.content_of(studio.folder, found), filename=found.name, media_type=BINARY)


def result_file(studio: Studio, job_id: str, path: str) -> Response:
    """A file of a job's result, by its path in it. Raises Unknown."""
    found = next((file for file in _files(studio, job_id) if file.path == path), None)
    if found is None:
        raise Unknown(f"The result of job {job_id} has no file {path!r}")
    return FileResponse(blobs.place(studio.folder, found.sha256), filename=Path(path).name, media_type=BINARY)


def adapter_zip(studio: Studio, job_id: str) -> Response:
    """The adapter of a job. Raises Unknown where there is none."""
    found = [file for file in _files(studio, job_id) if file.path.startswith(ADAPTER)]
    if not found:
        raise Unknown(f"Job {job_id} has no adapter")
    archive = TemporaryFile(dir=studio.folder)  # noqa: SIM115  the answer closes it
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(found, key=lambda one: one.path):
            packed.write(blobs.place(studio.folder, file.sha256), file.path)
    length = archive.tell()
    archive.seek(0)
    headers = {
        "content-disposition": f'attachment; filename="adapter-{job_id[:8]}.zip"',
        "content-length": str(length),
    }
    return StreamingResponse(_pieces(archive), media_type="application/zip", headers=headers)


def _files(studio: Studio, job_id: str) -> list[ResultFile]:
    with studio.store.reading() as session:
        return files_of(jobs.find(session, job_id).result)


def _pieces(archive: IO[bytes]) -> Iterator[bytes]:
    with archive:
        while piece := archive.read(1 << 18):
            yield piece
