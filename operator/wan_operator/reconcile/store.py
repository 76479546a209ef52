"""The store and the base model of a resource, as its pods get them: the same for every kind."""

from __future__ import annotations

from wan_operator.api.v1alpha1.common import ConfigMapKey, EffectiveStore, Store
from wan_operator.api.v1alpha1.model import Model
from wan_operator.resources.jobs import MODEL_PATH
from wan_operator.resources.labels import Manifest
from wan_operator.resources.pods import CA_FILE
from wan_operator.settings import Settings
from wan_runtime.contract.job import STORE_SECRET, ModelSpec, StoreSpec


class StoreNotConfiguredError(Exception):
    """Neither the spec nor the settings say where to write. The text names the fields and the Helm
    values."""


def resolve_store(store: Store, settings: Settings) -> EffectiveStore:
    """The store that a spec names, with the operator's settings for what it leaves out.

    Raises:
        StoreNotConfiguredError: if neither has an endpoint, a bucket or a Secret.
    """
    endpoint = store.endpoint or settings.store_endpoint
    bucket = store.bucket or settings.store_bucket
    secret = store.secret_ref.name if store.secret_ref else settings.store_secret
    missing = [
        hint
        for value, hint in (
            (endpoint, "spec.store.endpoint (or the Helm value store.endpoint)"),
            (bucket, "spec.store.bucket (or the Helm value store.bucket)"),
            (secret, "spec.store.secretRef.name (or the Helm value store.secretName)"),
        )
        if not value
    ]
    if missing:
        raise StoreNotConfiguredError(f"set {' and '.join(missing)}")
    return EffectiveStore(
        endpoint=endpoint,
        bucket=bucket,
        prefix=settings.store_prefix if store.prefix is None else store.prefix,
        region=store.region or settings.store_region,
        secret_name=secret,
    )


def named(said: str, given: Store | None, store: EffectiveStore) -> str:
    """A pod's words, with the name of the store's Secret and the field or Helm value that names
    it. `given`: of the spec."""
    own = given is not None and given.secret_ref is not None
    field = "spec.store.secretRef" if own else "the Helm value store.secretName"
    return said.replace(STORE_SECRET, f"Secret {store.secret_name} ({field})")


def store_spec(store: EffectiveStore, with_ca: bool) -> StoreSpec:
    """The store as pods read it. `with_ca`: its private authority is mounted."""
    return StoreSpec(
        endpoint=store.endpoint,
        bucket=store.bucket,
        prefix=store.prefix,
        region=store.region,
        ca_file=CA_FILE if with_ca else None,
    )


def ca_bundle(given: Store | None, settings: Settings) -> ConfigMapKey | None:
    """ConfigMap key with the store's private CA. The settings' bundle belongs to the settings'
    endpoint only."""
    store = given or Store()
    if store.ca_bundle is not None:
        return store.ca_bundle
    own_endpoint = store.endpoint is not None and store.endpoint != settings.store_endpoint
    if settings.store_ca_config_map and not own_endpoint:
        return ConfigMapKey(name=settings.store_ca_config_map, key=settings.store_ca_key)
    return None


def model_spec(model: Model) -> ModelSpec:
    """The base model as pods read it: its preset, and the folder or prefix with its weights."""
    source, preset = model.source, model.preset
    if source is None:
        return ModelSpec(preset=preset)
    if source.persistent_volume_claim is not None:
        return ModelSpec(preset=preset, path=mounted(source.persistent_volume_claim.path))
    return ModelSpec(preset=preset, source=source.s3)


def mounted(folder: str) -> str:
    """Path in the pod of a folder in the volume with base weights."""
    return f"{MODEL_PATH}/{folder.strip('/')}".rstrip("/")


def cache_volume(settings: Settings) -> Manifest | None:
    """Source of the volume for imported models, if the settings name one."""
    where = settings.model_cache
    if not where:
        return None
    if where.startswith("/"):
        return {"hostPath": {"path": where, "type": "Directory"}}
    return {"persistentVolumeClaim": {"claimName": where}}
