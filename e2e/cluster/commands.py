"""The command line: `python3 e2e/cluster <command>`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cluster import (
    images,
    layout_of,
    lifecycle,
    loading,
    minio,
    packages,
    postgres,
    toolchain,
    volumes,
)
from cluster.components import Component
from cluster.errors import ClusterError
from cluster.layout import EXTRA_COMPONENTS, cache_dir, default_api_state, default_state, load
from cluster.progress import say
from cluster.teardown import down


def _state(args: argparse.Namespace) -> Path:
    if args.state:
        return Path(args.state).absolute()
    bare = getattr(args, "control_plane_only", False)
    return default_api_state() if bare else default_state()


def _build(args: argparse.Namespace) -> int:
    packages.install()
    wanted = (*toolchain.DEFAULT_GROUPS, "kwok") if args.kwok else toolchain.DEFAULT_GROUPS
    toolchain.build(wanted)
    for name in wanted:
        print(toolchain.group_dir(name))
    return 0


def _bin(args: argparse.Namespace) -> int:
    print(toolchain.folder())
    return 0


def _up(args: argparse.Namespace) -> int:
    extra = tuple(args.extra or ())
    kubeconfig = lifecycle.up(_state(args), full=not args.control_plane_only, extra=extra)
    kubectl = toolchain.program("kubectl")
    print(f"export KUBECONFIG={kubeconfig}\nexport PATH={kubectl.parent}:$PATH")
    say(f"ready; {kubectl} --kubeconfig {kubeconfig} get nodes,pods -A")
    return 0


def _down(args: argparse.Namespace) -> int:
    down(_state(args), purge=args.purge)
    return 0


def _status(args: argparse.Namespace) -> int:
    text, well = lifecycle.status(layout_of(_state(args)))
    print(text)
    return 0 if well else 1


def _signal(args: argparse.Namespace) -> int:
    layout = layout_of(_state(args))
    if args.name not in layout.components:
        raise ClusterError(f"no component {args.name!r}; there are {', '.join(layout.components)}")
    component = Component(layout, args.name)
    {"stop": component.stop, "start": component.start, "kill": component.kill}[args.command]()
    return 0


def _image_base(args: argparse.Namespace) -> int:
    packages.install()
    makers = (images.pause, images.probe, images.minio, images.debian)
    paths = [make() for make in makers]
    layout = load(_state(args))
    if layout is not None and layout.full and Component(layout, "containerd").healthy():
        for path in paths[:3]:
            loading.load(layout, path)
    for path in paths:
        print(path)
    return 0


def _load(args: argparse.Namespace) -> int:
    layout = layout_of(_state(args))
    for path in args.archive:
        print("\n".join(loading.load(layout, Path(path))))
    return 0


def _minio(args: argparse.Namespace) -> int:
    print(json.dumps(minio.deploy(layout_of(_state(args))), indent=1))
    return 0


def _postgres(args: argparse.Namespace) -> int:
    print(json.dumps(postgres.deploy(layout_of()), indent=1))
    return 0


def _selfcheck(args: argparse.Namespace) -> int:
    from cluster import selfcheck  # read only when asked for: it is the tests

    if args.lifecycle:
        selfcheck.lifecycle_check(_state(args))
    else:
        selfcheck.check(layout_of(_state(args)))
    return 0


def _serve_volumes(args: argparse.Namespace) -> int:
    volumes.serve(layout_of(_state(args)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="e2e/cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--state", help=f"state folder (default {default_state()})")
    bare = argparse.ArgumentParser(add_help=False)
    bare.add_argument(
        "--control-plane-only",
        action="store_true",
        help=f"etcd and kube-apiserver alone, no root (default folder {default_api_state()})",
    )

    build = commands.add_parser("build", help="install packages and build the programs")
    build.add_argument("--kwok", action="store_true", help="kwok too, for pretended nodes")
    build.set_defaults(run=_build)
    programs = commands.add_parser("bin", help="print a folder with all programs, built if need be")
    programs.set_defaults(run=_bin)
    up = commands.add_parser("up", parents=[folder, bare], help="start or repair the cluster")
    up.add_argument(
        "--with",
        dest="extra",
        action="append",
        choices=EXTRA_COMPONENTS,
        help="beside a bare control plane; may be given more than once",
    )
    up.set_defaults(run=_up)
    ending = commands.add_parser("down", parents=[folder, bare], help="remove the cluster")
    ending.add_argument("--purge", action="store_true", help=f"and the caches in {cache_dir()}")
    ending.set_defaults(run=_down)
    state = commands.add_parser("status", parents=[folder, bare], help="show what runs")
    state.set_defaults(run=_status)
    for name, text in (
        ("stop", "end one component politely"),
        ("start", "start one component and wait for it"),
        ("kill", "end one component by SIGKILL"),
    ):
        signal = commands.add_parser(name, parents=[folder, bare], help=text)
        signal.add_argument("name")
        signal.set_defaults(run=_signal)
    base = commands.add_parser("image-base", parents=[folder], help="make the base images")
    base.set_defaults(run=_image_base)
    load_ = commands.add_parser("load", parents=[folder], help="import image archives")
    load_.add_argument("archive", nargs="+")
    load_.set_defaults(run=_load)
    store = commands.add_parser("minio", parents=[folder], help="deploy MinIO and wait for it")
    store.set_defaults(run=_minio)
    database = commands.add_parser("postgres", help="deploy PostgreSQL and wait for it")
    database.set_defaults(run=_postgres)
    check = commands.add_parser("selfcheck", parents=[folder], help="check that pods really work")
    check.add_argument(
        "--lifecycle", action="store_true", help="up, repair, down, compare the machine, up"
    )
    check.set_defaults(run=_selfcheck)
    serve = commands.add_parser("serve-volumes", parents=[folder])
    serve.set_defaults(run=_serve_volumes)
    return parser


def main() -> int:
    """Runs one command; what a person must know becomes a message and exit code 1."""
    args = _parser().parse_args()
    try:
        return int(args.run(args))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
