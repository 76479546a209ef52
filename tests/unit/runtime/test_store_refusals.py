"""What a store refuses is named with its own words, before a GPU is requested."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from minio.credentials import AssumeRoleProvider

from evaluations import Evaluation
from job_files import make_job
from object_store import ACCESS_KEY, BUCKET, SECRET_KEY, ObjectStore, policy
from wan_runtime.artifacts.credentials import FOLDER, VARIABLES, withheld
from wan_runtime.artifacts.patience import Patience
from wan_runtime.artifacts.probe import probe
from wan_runtime.artifacts.store import Store
from wan_runtime.contract.job import StoreSpec
from wan_runtime.contract.reasons import Reason
from wan_runtime.contract.steps import Step
from wan_runtime.errors import InfrastructureError
from wan_runtime.process import step as process_step
from wan_runtime.process.progress import Reporter

KEY = "team/service/.probe"
READ = ("s3:GetObject", "s3:ListBucket")
Given = Callable[..., None]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store of one region."""
    with ObjectStore(tmp_path_factory.mktemp("frankfurt"), region="eu-central-1") as running:
        yield running


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """`given(access key, secret key, session token)`: the credentials of the pod."""

    def give(access: str = ACCESS_KEY, secret: str = SECRET_KEY, token: str = "") -> None:
        for name, value in zip(VARIABLES.values(), (access, secret, token), strict=True):
            monkeypatch.setenv(name, value)

    give()
    return give


def opened(spec: StoreSpec) -> Store:
    return Store.connect(spec, patience=Patience(seconds=0))


def refused(spec: StoreSpec) -> InfrastructureError:
    with pytest.raises(InfrastructureError) as caught:
        probe(opened(spec), KEY)
    return caught.value


def test_a_store_that_takes_all_keeps_nothing(server: ObjectStore, given: Given) -> None:
    store = opened(server.spec())
    probe(store, KEY)
    assert list(store.list("team/service/")) == []


def test_a_bucket_that_is_missing(server: ObjectStore, given: Given) -> None:
    error = refused(server.spec("absent"))
    assert error.reason is Reason.STORE_NOT_FOUND
    assert error.message == f"{server.endpoint} has no bucket 'absent': create it"


@pytest.mark.parametrize(
    ("actions", "denied", "left"),
    [
        (READ, "s3:PutObject", 0),
        (("s3:PutObject", "s3:DeleteObject"), "s3:GetObject", 0),
        (("s3:PutObject", *READ), "s3:DeleteObject", 1),
    ],
)
def test_an_action_that_a_policy_denies_is_named(
    server: ObjectStore, given: Given, tmp_path: Path,
    actions: tuple[str, ...], denied: str, left: int,
) -> None:  # fmt: skip
    given(*server.user_who_may(tmp_path, *actions))
    for _ in range(2):
        error = refused(server.spec())
        assert error.reason is Reason.STORE_ACCESS_DENIED
        assert f"({denied} of '{KEY}': AccessDenied: Access Denied): correct" in error.message
        assert error.message.endswith(f"or let the policy of their user allow {denied}")
    found = list(server.client().list_objects(BUCKET, KEY, recursive=True))
    assert len(found) == left, "one is left where it can't be removed, not one a probe"
    server.client().remove_object(BUCKET, KEY)


def test_the_right_region_is_named(elsewhere: ObjectStore, given: Given) -> None:
    spec = elsewhere.spec()
    error = refused(spec)
    assert error.reason is Reason.STORE_REGION_WRONG
    assert f"{elsewhere.endpoint} refuses the region us-east-1 for bucket 'wan'" in error.message
    assert "expecting 'eu-central-1'" in error.message, "the store's words"
    assert error.message.endswith("to eu-central-1")
    with pytest.raises(InfrastructureError) as caught:
        opened(spec).stat(KEY)  # its answer has no body
    assert caught.value.reason is Reason.STORE_REGION_WRONG
    assert caught.value.message.endswith("to eu-central-1")
    probe(opened(spec.model_copy(update={"region": "eu-central-1"})), KEY)


@pytest.mark.parametrize("step", [Step.PREPARE, Step.IMPORT, Step.EXPORT])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("bucket", Reason.STORE_NOT_FOUND),
        ("write", Reason.STORE_ACCESS_DENIED),
        ("region", Reason.STORE_REGION_WRONG),
    ],
)
def test_steps_without_a_gpu_begin_with_it(
    server: ObjectStore, elsewhere: ObjectStore, given: Given, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, step: Step, fault: str, reason: Reason,
) -> None:  # fmt: skip
    monkeypatch.setattr(process_step, "_run", lambda *_: pytest.fail("it began"))
    store = elsewhere if fault == "region" else server
    if fault == "write":
        given(*server.user_who_may(tmp_path, *READ))
    spec = store.spec("absent" if fault == "bucket" else BUCKET)
    job = make_job(step=step, store=spec.model_dump())
    with pytest.raises(InfrastructureError) as caught:
        process_step.perform(job, tmp_path, Reporter(job.step_id))
    assert caught.value.reason is reason


@pytest.mark.parametrize("kind", ["fine-tune", "evaluation"])
def test_the_first_step_finds_what_is_denied_to_the_cache(
    server: ObjectStore,
    store: Store,
    given: Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(process_step, "_run", lambda *_: pytest.fail("it began"))
    own = f"arn:aws:s3:::{BUCKET}/runs/team-a/*"
    given(*server.user_who_may(tmp_path, *READ, "s3:PutObject", "s3:DeleteObject", where=own))
    spec = server.spec(prefix="runs")
    job = make_job(store=spec.model_dump())
    if kind == "evaluation":
        job = Evaluation(store, spec, tmp_path, "compare").job(Step.COLLECT)
    with pytest.raises(InfrastructureError, match="s3:PutObject of 'runs/cache/") as caught:
        process_step.perform(job, tmp_path, Reporter(job.step_id))
    assert caught.value.reason is Reason.STORE_ACCESS_DENIED


def test_a_session_token_goes_with_its_keys(server: ObjectStore, given: Given) -> None:
    allowed = json.dumps(policy(*READ, "s3:PutObject", "s3:DeleteObject"))
    role = AssumeRoleProvider(
        sts_endpoint=server.endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY, policy=allowed
    )
    made = role.retrieve()
    assert made.session_token
    given(made.access_key, made.secret_key, f"{made.session_token}\n")
    probe(opened(server.spec()), KEY)
    given(made.access_key, made.secret_key, "x" * 40)
    error = refused(server.spec())
    assert error.reason is Reason.STORE_ACCESS_DENIED
    assert "accessKey and secretKey" in error.message
    assert made.secret_key not in error.message


def test_white_space_around_a_value_is_no_part_of_it(server: ObjectStore, given: Given) -> None:
    given(f" {ACCESS_KEY}\n", f"\t{SECRET_KEY}\r\n", " \n")
    probe(opened(server.spec()), KEY)


def mount(folder: Path, number: int, **values: str) -> None:
    """The Secret as the kubelet mounts it."""
    version = folder / f"..version-{number}"
    version.mkdir(parents=True)
    for key, value in values.items():
        (version / key).write_text(value)
    (folder / "..new").symlink_to(version.name)
    (folder / "..new").rename(folder / "..data")


def test_a_mounted_secret_is_followed(
    server: ObjectStore, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "secret"))
    given(secret="of the pod's start")
    store = opened(server.spec())
    mount(tmp_path / "secret", 1, accessKey=f"{ACCESS_KEY}\n", secretKey="wrong")
    with pytest.raises(InfrastructureError) as caught:
        probe(store, KEY)
    assert caught.value.reason is Reason.STORE_ACCESS_DENIED
    mount(tmp_path / "secret", 2, accessKey=ACCESS_KEY, secretKey=f"{SECRET_KEY}\n")
    probe(store, KEY)
    mount(tmp_path / "secret", 3, accessKey=ACCESS_KEY, secretKey="s\u00e9cret")
    with pytest.raises(InfrastructureError, match="secretKey in the store's Secret ") as odd:
        probe(store, KEY)
    assert "s\u00e9cret" not in odd.value.message


def test_words_that_quote_a_secret_are_withheld(given: Given) -> None:
    given("AKIA-of-ours", "s3cr3t", "tok3n")
    assert withheld("no AKIA-of-ours with s3cr3t or tok3n") == "no … with … or …"
