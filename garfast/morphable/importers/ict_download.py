"""Fetch the ICT Face Model Light from its public repository, at one commit."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from urllib.error import HTTPError

from garfast.errors import DownloadError
from garfast.io.atomic import atomic_path
from garfast.io.digest import file_digest
from garfast.io.download import Expected, fetch, fetch_bytes
from garfast.morphable.importers.ict_kit import EXTRA_EXPRESSIONS, INDEX_FILE, NEUTRAL_FILE, read_indices

COMMIT = "da5f95a607f5e6b37755b38d3385d7f2853732e5"
BASE_URL = f"https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/{COMMIT}"
LISTING_URL = f"https://api.github.com/repos/ICT-VGL/ICT-FaceKit/git/trees/{COMMIT}?recursive=1"
FOLDER = "FaceXModel"
MANIFEST = "SHA256SUMS"
NUM_IDENTITIES = 100
WORKERS = 4


def download_ict(
    folder: Path,
    *,
    base_url: str = BASE_URL,
    listing_url: str | None = None,
    timeout: float = 10.0,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Fetch the kit's model files into a folder; run again to continue after an interruption.

    Every file is checked against the git object id and the size that the repository lists for the commit. Where that
    list cannot be had, only the lengths that the server states are checked. The SHA-256 of each file is recorded in
    ``SHA256SUMS``, and files that a later run finds there are checked against it.

    Args:
        folder: gets ``FaceXModel/`` (about 530 MB of text) and the kit's licence.
        base_url: where the repository's files are, without a slash at the end.
        listing_url: the list of the commit's files in the form of GitHub's tree API; None asks GitHub when
            ``base_url`` is the default, and nobody otherwise.
        timeout: seconds without an answer after which a try is given up.
        progress: called with the number of files done and their total.

    Returns:
        Whether the files were checked against the repository's list.

    Raises:
        DownloadError: the server does not answer, a file is not there, or it does not match.
        OutputError: a file cannot be written.
        ModelFileError: the index file is not the kit's.
    """
    base_url = base_url.rstrip("/")
    if listing_url is None and base_url == BASE_URL:
        listing_url = LISTING_URL
    recorded = _recorded(folder / MANIFEST)
    listed = _listing(listing_url, timeout) if listing_url else {}

    def get(name: str) -> str:
        known = listed.get(name, Expected())
        expected = known._replace(sha256=recorded.get(name))
        fetch(f"{base_url}/{name}", folder / name, expected, timeout=timeout)
        return name

    # The smallest file first: it says which others there are, and whether the server answers at all.
    get(f"{FOLDER}/{INDEX_FILE}")
    expressions, _ = read_indices(folder / FOLDER / INDEX_FILE)
    identities = [f"identity{k:03d}" for k in range(NUM_IDENTITIES)]
    extra = [name for name in EXTRA_EXPRESSIONS if name not in expressions]
    meshes = [Path(NEUTRAL_FILE).stem, *identities, *expressions, *extra]
    names = ["LICENSE", *(f"{FOLDER}/{mesh}.obj" for mesh in meshes)]
    done = [f"{FOLDER}/{INDEX_FILE}"]
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(get, name) for name in names]
        try:
            for job in as_completed(jobs):
                done.append(job.result())
                if progress is not None:
                    progress(len(done), len(names) + 1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    with atomic_path(folder / MANIFEST) as temporary:
        sums = {name: recorded.get(name) or file_digest(folder / name) for name in sorted(done)}
        temporary.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")
    return all(name in listed for name in done)


def _listing(url: str, timeout: float) -> dict[str, Expected]:
    """Sizes and object ids by path; empty where the list is refused, since it is only a check."""
    try:
        entries = json.loads(fetch_bytes(url, timeout=timeout))["tree"]
        return {
            str(entry["path"]): Expected(size=int(entry["size"]), git_sha1=str(entry["sha"]))
            for entry in entries
            if entry["type"] == "blob"
        }
    except DownloadError as error:
        if isinstance(error.__cause__, HTTPError):  # refused, for instance after too many requests from one address
            return {}
        raise
    except (ValueError, KeyError, TypeError):
        return {}


def _recorded(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {parts[1]: parts[0] for parts in lines if len(parts) == 2}
