"""What the scripts of an instance leave to Python, which cloud-init brings along.

Commands: pre-job EXCHANGE, policy URL TOKEN_FILE, fetch URL FILE SHA256, merge-json FILE OTHER,
claim URL FOLDER, report URL TOKEN_FILE PHASE [CODE].
"""

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request

MAX_BYTES = 1024
MAX_CLAIM = 1 << 20


def plain(name):
    """A variable without control characters and broken text."""
    value = os.environ.get(name, "").encode("utf-8", "replace").decode("utf-8", "replace")
    return "".join(c for c in value if c.isprintable() or c == " ")


def pre_job(exchange):
    metrics = {
        "timestamp": round(time.time(), 3),
        "workflow": plain("GITHUB_WORKFLOW"),
        "workflow_run_id": plain("GITHUB_RUN_ID"),
        "repository": plain("GITHUB_REPOSITORY"),
        "event": plain("GITHUB_EVENT_NAME"),
    }
    # The manager takes no larger file: a long name is cut, so that the rest is kept.
    while True:
        text = json.dumps(metrics, ensure_ascii=False) + "\n"
        if len(text.encode()) <= MAX_BYTES or not metrics["workflow"]:
            break
        metrics["workflow"] = metrics["workflow"][:-1]
    new = os.path.join(exchange, ".pre-job-metrics.json.new")
    with open(new, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(new, os.path.join(exchange, "pre-job-metrics.json"))


def policy_request():
    """The checks to ask, in order, and what is asked about."""
    event = os.environ.get("GITHUB_EVENT_NAME", "")
    body = {
        "repository_name": os.environ.get("GITHUB_REPOSITORY", ""),
        "commit_sha": os.environ.get("GITHUB_SHA", ""),
    }
    if event == "pull_request":
        source = body["repository_name"]
        try:
            with open(os.environ["GITHUB_EVENT_PATH"], encoding="utf-8") as file:
                source = json.load(file)["pull_request"]["head"]["repo"]["full_name"]
        except (KeyError, OSError, TypeError, ValueError) as error:
            print(f"the event names no source repository: {error}", file=sys.stderr)
            source = ""
        body["source_repository_name"] = source
        body["target_branch_name"] = os.environ.get("GITHUB_BASE_REF", "")
        body["source_branch_name"] = os.environ.get("GITHUB_HEAD_REF", "")
    else:
        body["branch_name"] = os.environ.get("GITHUB_REF_NAME", "")
    if event in ("pull_request", "workflow_dispatch", "push", "schedule"):
        return [event], body
    # Releases of the service differ in the name of the check for all other events.
    return ["all", "default"], body


def post(url, token, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    request.add_header("Authorization", "Bearer " + token)
    request.add_header("Content-Type", "application/json")
    return request


def read_line(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def ask(url, token, body):
    request = post(url, token, body)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        print(error.read(512).decode("utf-8", "replace"), file=sys.stderr)
        return error.code


def policy(url, token_file):
    """Prints the HTTP status. The token serves once, so only what got no answer is sent again."""
    token = read_line(token_file)
    checks, body = policy_request()
    status = 404
    for check in checks:
        if status != 404:
            break
        for attempt in range(3):
            time.sleep(attempt)
            try:
                status = ask(f"{url.rstrip('/')}/{check}/check-run", token, body)
                break
            except OSError as error:
                print(f"the repository policy service gives no answer: {error}", file=sys.stderr)
        else:
            status = 0
    print(status)


def claim(url, folder):
    """Exchanges the nonce for the files that hold secrets. It serves once: an answer that is
    lost on its way is lost, and the manager replaces this instance."""
    nonce_file = os.path.join(folder, "nonce")
    nonce = read_line(nonce_file)
    for attempt in range(8):
        time.sleep(min(attempt * 2, 10))
        try:
            with urllib.request.urlopen(post(url + "/claim", nonce, {}), timeout=30) as answer:
                files = json.loads(answer.read(MAX_CLAIM))["files"]
            break
        except urllib.error.HTTPError as error:
            text = error.read(512).decode("utf-8", "replace")
            print(f"the manager answers {error.code}: {text}", file=sys.stderr)
            if error.code < 500:
                sys.exit(1)
        except OSError as error:
            print(f"the manager gives no answer: {error}", file=sys.stderr)
    else:
        sys.exit(1)
    for name, content in files.items():
        if name != os.path.basename(name):
            sys.exit(f"the manager sent a file of the name {name!r}")
        mode = 0o644 if name == "registration.sh" else 0o600
        path = os.path.join(folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(content)
    os.remove(nonce_file)


def report(url, token_file, phase, code=None):
    body = {"phase": phase}
    if code is not None:
        body["exit_code"] = int(code)
    with urllib.request.urlopen(post(url + "/phase", read_line(token_file), body), timeout=5):
        pass


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(url, path, wanted):
    if os.path.exists(path) and sha256(path) == wanted:
        return
    new = path + ".new"
    for attempt in range(4):
        time.sleep(attempt * 2)
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, open(new, "wb") as file:
                while block := answer.read(1 << 20):
                    file.write(block)
        except OSError as error:
            print(f"cannot download {url}: {error}", file=sys.stderr)
            continue
        found = sha256(new)
        if found != wanted:
            os.remove(new)
            sys.exit(f"{url} has the SHA-256 {found} and not {wanted}")
        os.replace(new, path)
        return
    sys.exit(1)


def merged(ours, theirs):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {
            **theirs,
            **{key: merged(value, theirs.get(key)) for key, value in ours.items()},
        }
    if isinstance(ours, list) and isinstance(theirs, list):
        return ours + [item for item in theirs if item not in ours]
    return ours


def merge_json(path, addition):
    theirs = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            theirs = json.load(file)
    with open(addition, encoding="utf-8") as file:
        result = merged(json.load(file), theirs)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2)
    os.chmod(path + ".new", 0o600)
    os.replace(path + ".new", path)


COMMANDS = {
    "pre-job": pre_job,
    "policy": policy,
    "fetch": fetch,
    "merge-json": merge_json,
    "claim": claim,
    "report": report,
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
