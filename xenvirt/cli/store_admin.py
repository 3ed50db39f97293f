"""xenstore features, quota, control: what the store offers, allows, and can be told."""

import click

from xenvirt.abi.xs_wire import ServerFeature
from xenvirt.cli.output import print_json, say, table
from xenvirt.cli.settings import pass_settings
from xenvirt.cli.storelib import connected, failing
from xenvirt.errors import UsageError

_NAMES = {
    ServerFeature.RECONNECTION: "reconnection",
    ServerFeature.ERROR: "error",
    ServerFeature.WATCH_DEPTH: "watch-depth",
    ServerFeature.DOMID_ANY: "domid-any",
}
_DOMID = click.IntRange(0, 0x7FEF)


@click.command("features")
@click.argument("domid", type=_DOMID, required=False)
@click.option(
    "--set",
    "wanted",
    envvar="XENVIRT_XENSTORE_FEATURES_SET",
    metavar="NAME,…",
    help="Offer these alone to a domain that is not introduced yet; '' for none.",
)
def features_command(domid: int | None, wanted: str | None) -> None:
    """Print what the store offers to domain DOMID, or to this client."""
    with connected() as store:
        if wanted is not None:
            if domid is None:
                raise click.UsageError("--set needs a DOMID.")
            with failing(f"cannot set the features of domain {domid}"):
                store.set_features(domid, _parse(wanted))
        who = "this client" if domid is None else f"domain {domid}"
        with failing(f"cannot get the features of {who}"):
            features = store.get_features(domid)
    names = [name for bit, name in _NAMES.items() if bit & features]
    if pass_settings().json:
        print_json(features={"value": int(features), "names": names})
        return
    for name in names:
        say(name)


@click.command("quota")
@click.argument("name", required=False)
@click.argument("value", type=click.IntRange(min=0), required=False)
@click.option(
    "--domid", type=_DOMID, metavar="N", help="One domain's, instead of everybody's."
)
def quota_command(name: str | None, value: int | None, domid: int | None) -> None:
    """Print all quotas, or the one called NAME, or set it to VALUE.

    A domain can have one less than the quota; 0 is no limit.
    """
    whose = "" if domid is None else f" of domain {domid}"
    with connected() as store:
        if name is not None and value is not None:
            with failing(f"cannot set quota {name}{whose}"):
                store.set_quota(name, value, domid)
        with failing(f"cannot get quota {name or 'names'}{whose}"):
            names = [name] if name is not None else store.quota_names()
            quotas = {each: store.get_quota(each, domid) for each in names}
    if pass_settings().json:
        print_json(quotas=quotas)
    elif name is not None:
        say(str(quotas[name]))
    else:
        say(table(("quota", "value"), quotas.items()))


@click.command("control", context_settings={"ignore_unknown_options": True})
@click.argument("command")
@click.argument("parameters", nargs=-1)
def control_command(command: str, parameters: tuple[str, ...]) -> None:
    """Have the store run COMMAND, as xenstore-control; `help` names them."""
    with connected() as store, failing(f"the store refuses {command}"):
        answer = store.control(command, *parameters)
    if pass_settings().json:
        print_json(control=answer)
    else:
        click.echo(answer, nl=not answer.endswith("\n"))


def _parse(names: str) -> ServerFeature:
    known = {name: bit for bit, name in _NAMES.items()}
    features = ServerFeature(0)
    for name in filter(None, names.split(",")):
        if name not in known:
            raise UsageError(f"{name} is no feature", hint=f"one of {', '.join(known)}")
        features |= known[name]
    return features
