"""A build against its limits and against what a user would take instead, interleaved in one run.

  form     layers from downloaded wheels and nothing else; the limit: inflate and hash the same bytes on all cores
           (benches/limit); peers: uv into a directory that tar packs with gzip, pigz or zstd, and buildah with uv
  run      a first run, which unpacks the layers from the wheels; the peer: uv installing the same wheels into a directory
  cold     everything downloaded; the limits: the same files with eight parallel curls, and these curls with the limit of
           forming beside them, of wheels that are there: less than any build can do that downloads, verifies and knows diff IDs
  export   to a layout and to the two kinds of archive; the limit: cp of as many bytes, with fsync
  scaling  forming with one thread against all
"""

import json
import os
import shlex
import shutil
import subprocess
import time
import tomllib

from measure import CACHE, ROOT, Costs, Run, environment

PLATFORM = "linux/amd64"
# The project's own bars: what is compared, how, and what it may be.
BARS = {
    "torch": {
        "form / limit": 1.3, "form, CPU s per unpacked GB": 4.5, "cold / eight curls": 1.3,
        "oci / cp": 1.2, "docker-archive / cp": 1.2, "oci-archive / cp": 1.2,
        "bytes written to the store / downloads": 1.02, "first run / uv pip install": 1.2,
    },
    "sklearn": {},
}


def build_limit(work):
    """The program of benches/limit."""
    target = CACHE / "limit"
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT / "benches/limit", check=True,
        env={**os.environ, "CARGO_TARGET_DIR": str(target)},
    )
    return target / "release/limit"


class Against:
    def __init__(self, program, limit, uv, spec, rounds, slow_peers, work):
        self.program, self.limit, self.uv, self.spec = program, limit, uv, spec
        self.rounds, self.slow_peers, self.work = rounds, slow_peers, work
        self.text = (ROOT / f"fixtures/specs/{spec}.toml").read_text()
        self.table, self.verdicts = [], []
        self.costs = {}
        self.project = work / "project"
        self.project.mkdir()
        (self.project / "mlbuild.toml").write_text(self.text)
        self.store = work / "store"
        self.mlbuild("lock")
        self.mlbuild("build", "--platform", PLATFORM)
        locked = tomllib.loads((self.project / "mlbuild.lock").read_text())
        here = lambda entry: PLATFORM in entry.get("platforms", [PLATFORM])
        self.wheels = [wheel for package in locked["package"] for wheel in package["wheels"] if here(wheel)]
        debs = [deb for deb in locked.get("deb", []) if deb.get("platform", PLATFORM) == PLATFORM]
        self.downloads = sum(wheel["size"] for wheel in self.wheels) + sum(deb["size"] for deb in debs)
        # The wheels under their names, as pip's users have them.
        self.shelf = work / "wheels"
        self.shelf.mkdir()
        for wheel in self.wheels:
            digest = wheel["hashes"]["sha256"]
            blob = next((self.store / "blobs").rglob(f"*{digest[2:]}"))
            os.link(blob, self.shelf / wheel["name"])
        self.paths = sorted(str(path) for path in self.shelf.iterdir())
        names = [wheel["name"].split("-")[:2] for wheel in self.wheels]
        (work / "requirements.txt").write_text("".join(f"{name}=={version}\n" for name, version in names))

    def mlbuild(self, *arguments, store=None):
        return Run([self.program, *arguments], self.project, environment(MLBUILD_HOME=store or self.store, TMPDIR=self.work))

    def shell(self, command):
        return Run(["bash", "-ceu", command], self.work, environment())

    def took(self, name, *runs):
        self.costs.setdefault(name, Costs()).add(*runs)
        print(f"  {self.spec} {name}: {sum(run.seconds for run in runs):.2f} s", flush=True)

    # -- form

    def fresh_store(self):
        """Downloads and nothing derived from them."""
        store = self.work / "fresh"
        shutil.rmtree(store, ignore_errors=True)
        store.mkdir()
        shutil.copytree(self.store / "blobs", store / "blobs", copy_function=os.link)
        for path in list((store / "blobs").rglob("*")):
            if path.is_file() and path.name not in self.fetched() and path.parent.name + path.name not in self.fetched():
                path.unlink()
        return store

    def fetched(self):
        if not hasattr(self, "_fetched"):
            locked = tomllib.loads((self.project / "mlbuild.lock").read_text())
            self._fetched = {wheel["hashes"]["sha256"] for wheel in self.wheels}
            self._fetched |= {deb["sha256"] for deb in locked.get("deb", [])}
        return self._fetched

    def form(self, threads=()):
        build = ("build", "--offline", "--json", "--platform", PLATFORM, *threads)
        made = self.mlbuild(*build, store=self.fresh_store())
        self.report = json.loads(made.stdout)
        self.took("mlbuild, one thread" if threads else "mlbuild", made)
        if not threads:
            image = self.report["images"][0]["manifest"]
            run = ("run", "--network", "none", "--entrypoint", "", image, "--", "/usr/bin/python3", "-S", "-c", "1")
            # Each writes 7 GB for torch; neither waits for what was written before.
            os.sync()
            self.took("first run", self.mlbuild(*run, store=self.work / "fresh"))

    def bare_limit(self):
        for name, flags in (("limit: inflate, hash what comes out and the wheels", ["--packed"]), ("limit: inflate, hash what comes out", [])):
            run = Run([self.limit, *flags, *self.paths], self.work, environment())
            self.limits = json.loads(run.stdout)
            self.took(name, run)

    def install(self):
        shutil.rmtree(self.work / "target", ignore_errors=True)
        command = [
            self.uv, "pip", "install", "--quiet", "--no-config", "--offline", "--no-index", "--no-deps", "--find-links", self.shelf,
            "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36", "--target", self.work / "target",
            "-r", "requirements.txt",
        ]
        shutil.rmtree(self.work / "uv-cache", ignore_errors=True)
        os.sync()
        return Run(command, self.work, environment(UV_CACHE_DIR=self.work / "uv-cache"))

    def pack(self):
        installed = self.install()
        self.took("uv pip install", installed)
        for name, compressor in (("zstd -3 -T0", "zstd -q -3 -T0"), ("pigz", "pigz"), ("gzip -6", "gzip -6")):
            if name != "zstd -3 -T0" and not self.slow_peers and f"uv + tar, {name}" in self.costs:
                continue
            packed = self.shell(f"tar -C target -cf - . | {compressor} >layer; sync layer")
            self.took(f"uv + tar, {name}", installed, packed)
            (self.work / "layer").unlink()
        shutil.rmtree(self.work / "target")
        shutil.rmtree(self.work / "uv-cache")

    def buildah(self):
        """buildah runs uv in a container of our own base, commits one gzip layer."""
        tool = f"buildah --root {self.work}/containers --runroot {self.work}/run --storage-driver overlay"
        name = "buildah + uv"
        if not self.slow_peers and name in self.costs:
            return
        if not (self.work / "base").exists():
            base = self.work / "base-project"
            base.mkdir()
            (base / "mlbuild.toml").write_text((ROOT / "fixtures/specs/hello.toml").read_text())
            run = [self.program, "build", "--platform", PLATFORM, "-o", f"oci:{self.work}/base:base"]
            Run(run, base, environment(MLBUILD_HOME=self.store, TMPDIR=self.work))
        built = self.shell(f"""
            container=$({tool} from oci:base:base)
            {tool} run --isolation chroot --volume {self.shelf}:/wheels:ro --volume {self.uv.parent}:/uv:ro \
                --volume {self.work}/requirements.txt:/requirements.txt:ro "$container" -- /uv/uv pip install --quiet --no-cache \
                --offline --no-index --no-deps --find-links /wheels --python /usr/bin/python3 --target /app -r /requirements.txt
            {tool} commit --quiet "$container" oci-archive:{self.work}/committed >/dev/null
        """)
        self.took(name, built)
        self.shell(f"{tool} rm --all >/dev/null; {tool} rmi --all --force >/dev/null; rm -f committed")

    # -- cold

    def cold(self):
        store = self.work / "cold"
        shutil.rmtree(store, ignore_errors=True)
        run = self.mlbuild("build", "--platform", PLATFORM, store=store)
        self.took("cold: mlbuild", run)
        shutil.rmtree(store)
        urls = "".join(f'url = "{wheel["url"]}"\noutput = "{index}"\n' for index, wheel in enumerate(self.wheels))
        (self.work / "curl.txt").write_text(urls)
        curl = "curl --silent --fail --location --parallel --parallel-immediate --parallel-max 8 --config ../curl.txt"
        limit = " ".join(shlex.quote(str(word)) for word in [self.limit, "--packed", *self.paths])
        for name, beside in (("eight parallel curls", ""), ("limit: eight curls, inflating and hashing beside them", f"{limit} >/dev/null &")):
            (self.work / "curl").mkdir()
            self.took(f"cold: {name}", self.shell(f"cd curl; {beside} {curl}; wait"))
            shutil.rmtree(self.work / "curl")

    # -- export

    def export(self):
        for form in ("oci", "docker-archive", "oci-archive"):
            out = self.work / f"out-{form}"
            self.took(f"export: {form}", self.mlbuild("build", "--platform", PLATFORM, "-o", f"{form}:{out}"))
            if form == "oci":
                self.took("export: cp with fsync", self.shell("mkdir copied; cp out-oci/blobs/sha256/* copied/; sync copied/*"))
                shutil.rmtree(self.work / "copied")
                shutil.rmtree(out)
            else:
                out.unlink()

    # -- all

    def run(self, cold_only=False):
        for _ in range(self.rounds):
            if not cold_only:
                self.form()
                self.bare_limit()
                self.form(threads=("--jobs", "1"))
                self.pack()
                self.buildah()
                self.export()
            self.cold()
        if not cold_only:
            self.compare()
        cost = self.costs
        limit = cost["cold: limit: eight curls, inflating and hashing beside them"]
        self.say("cold / eight curls", cost["cold: mlbuild"].seconds / cost["cold: eight parallel curls"].seconds)
        self.say("cold / limit", cost["cold: mlbuild"].seconds / limit.seconds)
        self.say("cold limit / eight curls", limit.seconds / cost["cold: eight parallel curls"].seconds)
        self.say("bytes written to the store / downloads", cost["cold: mlbuild"].written / self.downloads)
        for name, costs in cost.items():
            times = [sum(run.seconds for run in runs) for runs in costs.rounds]
            self.table.append(
                f"| {self.spec} | {name} | {costs.seconds:.2f} | {min(times):.2f}-{max(times):.2f} | {costs.cpu:.1f} "
                f"| {costs.mib:.0f} | {costs.written / 1e6:.0f} |"
            )

    def compare(self):
        unpacked = self.limits["unpacked"]
        cost = self.costs
        ours, one = cost["mlbuild"], cost["mlbuild, one thread"]
        self.say("form / limit", ours.seconds / cost["limit: inflate, hash what comes out and the wheels"].seconds)
        self.say("form / limit without the wheels' own hashes", ours.seconds / cost["limit: inflate, hash what comes out"].seconds)
        self.say("form, CPU s per unpacked GB", ours.cpu / unpacked * 1e9)
        self.say("one thread / all threads", one.seconds / ours.seconds)
        self.say("first run / uv pip install", cost["first run"].seconds / cost["uv pip install"].seconds)
        for name in cost:
            if name.startswith(("uv +", "buildah")):
                self.say(f"{name} / mlbuild", cost[name].seconds / ours.seconds)
        for form in ("oci", "docker-archive", "oci-archive"):
            self.say(f"{form} / cp", cost[f"export: {form}"].seconds / cost["export: cp with fsync"].seconds)

    def say(self, what, value):
        bar = BARS[self.spec].get(what)
        verdict = "" if bar is None else f"bar {bar}: {'met' if value <= bar else 'MISSED'}"
        self.verdicts.append((self.spec, what, f"{value:.3g}", verdict, f"medians of {self.rounds}"))
        print("{:8} {:52} {:>8}  {}".format(*self.verdicts[-1][:4]), flush=True)
