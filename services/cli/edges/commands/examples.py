"""What `--help` shows at its end: command lines that can be typed as they are."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "up": (
        "stead up --detach",
        "stead up --detach --driver fake --fake-hosts 50 --api-replicas 2",
    ),
    "instance create": (
        "stead instance create web --flavor tiny --image stead-guest --wait",
        "stead instance create db --flavor tiny --image debian --key laptop --label tier=back",
        "stead instance create node --flavor tiny --image debian --count 20 --wait",
        "stead instance create web --flavor tiny --image debian --dry-run",
    ),
    "instance list": (
        """stead instance list --filter 'state = "ACTIVE" AND labels.tier = "front"'""",
        "stead instance list --order-by 'name desc' --output json",
    ),
    "instance update": (
        "stead instance update web --name shop",
        "stead instance update shop --label tier=front --remove-label draft",
    ),
    "instance stop": (
        "stead instance stop web --wait",
        "stead instance stop web --grace 0",
    ),
    "instance evacuate": ("stead instance evacuate web --wait",),
    "instance reboot": (
        "stead instance reboot web --wait",
        "stead instance reboot web --hard",
    ),
    "instance pause": ("stead instance pause web --wait",),
    "instance unpause": ("stead instance unpause web --wait",),
    "instance suspend": ("stead instance suspend web --wait",),
    "instance resume": ("stead instance resume web --wait",),
    "instance delete": ("stead instance delete web --wait",),
    "instance console": (
        "stead instance console web",
        "stead instance console web --log",
        "stead instance console web --read-only --from 0 > everything.log",
        "echo 'uname -a' | stead instance console web",
    ),
    "instance watch": (
        "stead instance watch",
        "stead instance watch web --until ACTIVE",
        """stead instance watch --filter 'labels.tier = "front"' --output json""",
    ),
    "instance wait": (
        "stead instance wait web",
        "stead instance wait web --until STOPPED --timeout 60",
    ),
    "operation list": (
        "stead operation list --instance web",
        """stead operation list --filter 'state = "FAILED"'""",
    ),
    "operation watch": (
        "stead operation watch",
        "stead operation watch 01a2048d-a56b-7140-86a6-53fad6ce83b7",
    ),
    "flavor create": ("stead flavor create tiny --vcpus 1 --memory-mib 128 --disk-gib 1",),
    "image import": (
        "stead image import debian.qcow2 --name debian",
        "stead image import debian.qcow2 --name debian --boot web --flavor tiny --key laptop",
    ),
    "keypair create": (
        "stead keypair create laptop ~/.ssh/id_ed25519.pub",
        "ssh-keygen -y -f ~/.ssh/id_ed25519 | stead keypair create laptop -",
    ),
    "project create": ("stead project create shop --name 'The shop'",),
    "quota show": ("stead quota show", "stead quota show shop --output json"),
    "quota set": (
        "stead quota set shop --instances 20 --vcpus 40",
        "stead quota set shop --memory-mib none",
    ),
    "host list": ("""stead host list --filter 'state = "UP" AND enabled = "true"'""",),
    "host disable": ("stead host disable rack1-7 --reason 'a new disk on Monday'",),
    "host fence": ("stead host fence rack1-7 --reason 'powered off at the rack, Ann'",),
    "host remove": ("stead host remove rack1-7 --dry-run", "stead host remove rack1-7"),
    "host watch": ("stead host watch",),
    "audit": ("stead audit", "stead audit --output json"),
    "host audit": ("stead host audit rack1-7", "stead host audit rack1-7 --output json"),
    "host discard-guest": (
        "stead host discard-guest rack1-7 01a2048d-a56b-7140-86a6-53fad6ce83b7 4711 --dry-run",
        "stead host discard-guest rack1-7 01a2048d-a56b-7140-86a6-53fad6ce83b7 4711",
    ),
    "token create": (
        "stead token create --project web --role member --for 8h > web.token",
        "STEAD_TOKEN_FILE=web.token stead instance list",
    ),
    "completion": (
        'eval "$(stead completion bash)"',
        "stead completion zsh > ~/.zfunc/_stead",
        "stead completion fish > ~/.config/fish/completions/stead.fish",
    ),
}


def taught(command: str) -> str:
    """The examples of a command, as the end of its help; empty for none."""
    lines = EXAMPLES.get(command, ())
    if not lines:
        return ""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\b\n" + "\n".join([title, *(f"  {line}" for line in lines)])
