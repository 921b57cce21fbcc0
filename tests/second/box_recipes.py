#!/usr/bin/env python3
"""The recipes of integrations/: the command of each runs against a box, with the environment as each gives it; 75 is success and a
failure is a failure. Each file is checked by its own tool: check-jsonschema, kubernetes-validate, and crontab and systemd-analyze where
they are there. The image is a folder that holds what the Dockerfile copies, the libraries of its base, and /dev/null: the programs run
in it by chroot."""
import ast
import os
import pathlib
import re
import shlex
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import yaml

from box import KEY, ROOT, Box, Difference, Report, TAP, TARGET, Truth

HOMES = ROOT / "integrations"
SINCE = "2026-01-01"
CERTIFICATES = ROOT / "tests" / "certificates"


class Machine:
    """A folder for HOME, the data and both programs on PATH, and a box to read."""

    def __init__(self, folder, box):
        self.box = box
        self.folder = pathlib.Path(folder)
        (self.folder / "bin").mkdir()
        for path in (TAP, TARGET):
            (self.folder / "bin" / os.path.basename(path)).symlink_to(os.path.abspath(path))
        self.path = f"{self.folder}/bin:/usr/local/bin:/usr/bin:/bin"
        self.settings = {"TAP_POSTHOG_PROJECT_ID": "1", "TAP_POSTHOG_REGION": "self_hosted", "TAP_POSTHOG_CUSTOM_BASE_URL": box.url,
                         "TAP_POSTHOG_DATA_TYPE": "events", "TAP_POSTHOG_INITIAL_SINCE": SINCE}

    def run(self, command, key=KEY, cwd=None, **more):
        environment = {"PATH": self.path, "HOME": str(self.folder), **self.settings, "TAP_POSTHOG_API_KEY": key, **more}
        environment = {name: value for name, value in environment.items() if value is not None}
        return subprocess.run(command, env=environment, cwd=cwd or self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)

    def difference(self, folder):
        files = sorted(str(path) for path in pathlib.Path(folder, "events").rglob("*.parquet"))
        if not files:
            return None
        return Difference(Truth(self.box, SINCE), "SELECT epoch_us(timestamp) AS timestamp_us, event, distinct_id, uuid::VARCHAR AS uuid, "
                          f"epoch_us(created_at) AS created_us FROM read_parquet({files!r}, union_by_name = true)")


def works(report, name, machine, run, folder, early=True):
    """A recipe: reads everything, fails with a wrong key, takes 75 for success. `run(key, **environment)` runs its command."""
    done = run(KEY)
    report.check(f"{name}: ends well", done.returncode == 0, done.stdout[-500:] + done.stderr[-1500:])
    difference = machine.difference(folder)
    report.check(f"{name}: each row once", difference and difference.none(), difference)
    failed = run("phx_wrong_key_of_nobody")
    report.check(f"{name}: a wrong key is a failure", failed.returncode not in (0, 75), f"exit {failed.returncode} {failed.stderr[-500:]}")
    if early:
        machine.box.fault("throttle_429", retry_after=600)
        stopped = run(KEY, TAP_POSTHOG_MAX_WAIT_MINUTES="0")
        machine.box.forget()
        report.check(f"{name}: a limit is no failure", stopped.returncode == 0, f"exit {stopped.returncode} {stopped.stderr[-800:]}")


def tool(report, what, command, **more):
    """Checks a file by its own tool."""
    done = subprocess.run(command, capture_output=True, text=True, **more)
    report.check(what, done.returncode == 0, (done.stdout + done.stderr)[-1500:])


def cron(report, machine):
    path = HOMES / "cron" / "crontab"
    if shutil.which("crontab"):
        tool(report, "crontab takes the file", ["bash", "-c", 'crontab -T "$1" || crontab -n "$1"', "bash", path])  # one of the two, by version
    [line] = [line for line in path.read_text().splitlines() if re.match(r"[\d*]", line)]
    command = line.split(None, 5)[5]
    report.check("cron: % would end the command", "%" not in command)
    (machine.folder / ".config").mkdir()
    secrets = machine.folder / ".config" / "posthog.env"

    def run(key, **more):
        secrets.write_text("".join(f"{name}={value}\n" for name, value in {**machine.settings, "TAP_POSTHOG_API_KEY": key}.items()))
        secrets.chmod(0o600)
        return machine.run(["bash", "-c", command], key=None, **{**dict.fromkeys(machine.settings), **more})

    works(report, "cron", machine, run, machine.folder / "posthog")
    with open(secrets) as held:
        subprocess.run(["flock", str(held.fileno())], pass_fds=[held.fileno()], check=True)
        report.check("cron: a run beside another is no failure", run(KEY).returncode == 0)


def systemd(report, machine):
    unit = (HOMES / "systemd" / "posthog.service").read_text()
    value = dict(re.findall(r"^(\w+)=(.*)$", unit, re.M))
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "posthog.service").write_text(unit.replace("/usr/local/bin/", f"{machine.folder}/bin/"))
        shutil.copy(HOMES / "systemd" / "posthog.timer", folder)
        if shutil.which("systemd-analyze"):
            tool(report, "systemd-analyze takes the units", ["systemd-analyze", "verify", f"{folder}/posthog.service", f"{folder}/posthog.timer"])
    destination = value["Environment"].split("=", 1)[1].replace("%S", f"{machine.folder}/lib")
    command = shlex.split(value["ExecStart"].replace("/usr/local/bin/", f"{machine.folder}/bin/"))

    def run(key, **more):
        done = machine.run(command, key=key, TARGET_PARQUET_DESTINATION_PATH=destination, **more)
        done.returncode = 0 if str(done.returncode) == value["SuccessExitStatus"] else done.returncode
        return done

    works(report, "systemd", machine, run, destination)


def github(report, machine):
    path = HOMES / "github-actions" / "posthog.yml"
    tool(report, "GitHub's schema takes the workflow", [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path])
    steps = yaml.safe_load(path.read_text())["jobs"]["read"]["steps"]
    [step] = [step for step in steps if step.get("name") == "Read"]
    report.check("GitHub: the secret is one", step["env"]["TAP_POSTHOG_API_KEY"] == "${{ secrets.POSTHOG_API_KEY }}")
    checkout = machine.folder / "checkout"
    checkout.mkdir()
    works(report, "GitHub", machine, lambda key, **more: machine.run(["bash", "-c", step["run"]], key=key, cwd=checkout, **more), checkout / "output")


def airflow(report, machine):
    """Without Airflow: the arguments of the operator, as they stand in the file."""
    tree = ast.parse((HOMES / "airflow" / "posthog.py").read_text())
    [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BashOperator"]
    given = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg in ("bash_command", "env", "append_env")}
    report.check("Airflow: the key is that of a connection", given["append_env"] and given["env"]["TAP_POSTHOG_API_KEY"] == "{{ conn.posthog.password }}")
    data = str(machine.folder / "airflow")
    works(report, "Airflow", machine, lambda key, **more: machine.run(["bash", "-c", given["bash_command"]], key=key, TARGET_PARQUET_DESTINATION_PATH=data, **more), data)


def kubernetes(report, machine):
    path = HOMES / "kubernetes" / "posthog.yaml"
    tool(report, "Kubernetes' schema takes the objects", [pathlib.Path(sys.executable).with_name("kubernetes-validate"), "--strict", path])
    documents = list(yaml.safe_load_all(path.read_text()))
    job = documents[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = job["containers"]
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in job["volumes"]}
    report.check("Kubernetes: the disk is the one that is claimed", claims == {documents[0]["metadata"]["name"]}, claims)
    report.check("Kubernetes: nothing of the key stands in the file", "phx_" not in yaml.safe_dump(documents))
    [mount] = [mount["mountPath"] for mount in container["volumeMounts"]]
    given = {entry["name"]: entry["value"].replace(mount, f"{machine.folder}/kubernetes") for entry in container["env"]}
    works(report, "Kubernetes", machine, lambda key, **more: machine.run(container["command"], key=key, **given, **more), machine.folder / "kubernetes")


def libraries(program):
    """The files that the loader asks for: the base image brings them."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", told)


class Secure:
    """A server with a certificate that only tests/certificates/authority.pem vouches for. It answers 401 to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'{"type":"authentication_error","code":"authentication_failed","detail":"Invalid key","attr":null}'
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    def __enter__(self):
        self.server = HTTPServer(("127.0.0.1", 0), self.Answer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATES / "signed_by_authority.pem", CERTIFICATES / "key_of_all_but_authority.pem")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"https://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def docker(report, machine):
    """A root with what the image holds and nothing else, for the entry point of the image."""
    if os.geteuid() != 0:
        print("      the image: chroot needs root", flush=True)
        return
    text = (HOMES / "docker" / "Dockerfile").read_text()
    root = machine.folder / "image"
    stage = text[text.rindex("\nFROM "):]
    copies = re.findall(r"^COPY (?:--from=\S+ )?(.*) (\S+)$", stage, re.M)
    brought = {"target/release/tap-posthog": TAP, "target/release/target-parquet": TARGET, "/etc/ssl/certs/ca-certificates.crt": CERTIFICATES / "authority.pem"}
    for sources, destination in copies:
        for source in sources.split():
            place = root / destination.lstrip("/") / (os.path.basename(source) if destination.endswith("/") else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(brought.pop(source), place)
    report.check("the image: two programs and the authorities are copied", not brought, brought)
    for library in {library for program in (TAP, TARGET) for library in libraries(program)}:
        (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.realpath(library), root / library.lstrip("/"))
    [work] = re.findall(r"^WORKDIR (\S+)$", stage, re.M)
    (root / work.lstrip("/")).mkdir()
    (root / "dev").mkdir()
    os.mknod(root / "dev" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    given = {"PATH": "/usr/local/bin:/usr/bin:/bin", **dict(re.findall(r"^ENV (\w+)=(\S+)$", stage, re.M))}
    entry = ast.literal_eval(re.findall(r"^ENTRYPOINT (\[.*\])$", stage, re.M)[0])
    chroot = [shutil.which("chroot") or "/usr/sbin/chroot", str(root), f"/usr/local/bin/{entry[0]}", *entry[1:]]

    works(report, "the image", machine, lambda key, **more: machine.run(chroot, key=key, **given, **more), root / work.lstrip("/"), early=False)
    held = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not str(path).startswith(f"{root}{work}"))
    print(f"      the image held {', '.join(held)}", flush=True)
    doctor = [*chroot[:2], "/usr/local/bin/tap-posthog", "--config=ENV", "--doctor"]
    with Secure() as address:
        trusts = machine.run(doctor, TAP_POSTHOG_CUSTOM_BASE_URL=address, **given)
        (root / "etc/ssl/certs/ca-certificates.crt").unlink()
        doubts = machine.run(doctor, TAP_POSTHOG_CUSTOM_BASE_URL=address, **given)
    report.check("the image: its authorities are those that count", '"category": "auth"' in trusts.stdout and "No CA certificates" in doubts.stdout, trusts.stdout[:400] + doubts.stdout[:400])


def main():
    report = Report("recipes")
    with Box(events=2000) as box, tempfile.TemporaryDirectory() as folder:
        machine = Machine(folder, box)
        for part in (cron, systemd, github, airflow, kubernetes, docker):
            part(report, machine)
    report.end()


if __name__ == "__main__":
    main()
