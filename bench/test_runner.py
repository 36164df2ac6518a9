"""Tests of bench/run's arithmetic: medians, the best floor, verdicts, infinities, SVG; and of what
its rows and contestants name; of the congestion control that rows run under; of two builds in pairs; and of busy loops."""

import argparse
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
import unittest
from unittest import mock
from xml.dom import minidom

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from runner import pairs, plot, report, rows  # noqa: E402
from runner.congestion import Control  # noqa: E402
from runner.contestants import (  # noqa: E402
    Culvert,
    CulvertPath,
    CulvertTls,
    HAProxy,
    HAProxyTls,
    all_contestants,
)
from runner.procs import StartError, number_list, visitors_of, wait_visitors  # noqa: E402
from runner.rows import FLOORS, RINGS, Metric, Row, Target, all_rows  # noqa: E402
from runner.tools import WARM, s_time_count  # noqa: E402


class Sample(Row):
    number = 99
    title = "a sample"
    metrics = (Metric("rate", "rate", against=True), Metric("wait", "wait", better="less"))
    targets = (
        Target("rate", ">=", 1.0, "best floor"),
        Target("rate", ">=", 1.5, ("a", "b")),
        Target("wait", "<=", 1.0, "best floor"),
        Target("wait", "<=", 8),
    )


def sample(ours=(90, 100, 80)):
    result = report.RowResult(Sample())
    for rate in ours:
        result.add("culvert v2", {"rate": rate, "wait": 5})
    result.add("floor ring", {"rate": 80, "wait": 4})
    result.add("floor splice", {"rate": 70, "wait": 6})
    result.add("b", {"rate": 60, "wait": 9})
    return result


class Verdicts(unittest.TestCase):
    def verdicts(self, result):
        return report.verdicts(result, "culvert v2")

    def test_best_floor_follows_the_direction_of_the_metric(self):
        result = sample()
        self.assertEqual(result.best_floor(result.metric("rate")), "floor ring")
        self.assertEqual(result.best_floor(result.metric("wait")), "floor ring")
        result.add("floor splice", {"rate": 500, "wait": 1})
        self.assertEqual(result.best_floor(result.metric("rate")), "floor splice")

    def test_the_ring_floor_is_the_better_of_two_designs_figure_by_figure(self):
        result = sample()
        result.row.targets = (Target("rate", ">=", 1.0, RINGS), Target("wait", "<=", 1.0, RINGS))
        self.assertEqual([v.rival for v in self.verdicts(result)], ["floor ring"] * 2)
        result.add("floor plain", {"rate": 120, "wait": 9})
        rate, wait = self.verdicts(result)
        self.assertEqual((rate.rival, wait.rival), ("floor plain", "floor ring"))
        self.assertAlmostEqual(rate.ratio, 90 / 120)
        self.assertEqual(result.best_floor(result.metric("rate")), "floor plain")

    def test_no_target_names_one_ring_floor_alone(self):
        for row in all_rows():
            for target in row.targets:
                self.assertNotIn(target.rival, RINGS, row.title)
                if isinstance(target.rival, tuple) and set(RINGS) & set(target.rival):
                    self.assertLessEqual(set(RINGS), set(target.rival), row.title)

    def test_ratio_of_medians(self):
        floor, best, wait, limit = self.verdicts(sample())
        self.assertAlmostEqual(floor.ratio, 90 / 80)
        self.assertEqual((floor.met, best.met, wait.met, limit.met), (True, True, False, True))
        self.assertEqual(best.rival, "b")

    def test_what_was_not_measured_is_not_judged(self):
        self.assertEqual([verdict.met for verdict in self.verdicts(sample(ours=()))], [None] * 4)

    def test_equal_to_the_factor_is_met(self):
        self.assertTrue(self.verdicts(sample(ours=(80,)))[0].met)

    def test_a_row_with_a_subject_of_its_own_judges_that_one(self):
        result = sample()
        result.row.subject = "b"
        result.row.targets = (Target("rate", ">=", 0.65, "culvert v2"),)
        (verdict,) = self.verdicts(result)
        self.assertAlmostEqual(verdict.ratio, 60 / 90)
        self.assertEqual((verdict.subject, verdict.met), ("b", True))
        self.assertIn("met: b 0.67", report.row_text(result, ["b"], "culvert v2"))
        (judged,) = json.loads(report.as_json([result], "culvert v2", {}))["rows"][0]["targets"]
        self.assertEqual((judged["subject"], judged["rival"]), ("b", "culvert v2"))


class Output(unittest.TestCase):
    def test_text_names_misses_absent_and_failures(self):
        result = sample()
        result.absent["rathole"] = "rathole not on PATH"
        result.fail("b", "went away")
        text = report.row_text(result, ["floor ring", "culvert v2", "b"], "culvert v2")
        for part in (
            "MISSED: culvert v2 1.25",
            "absent: rathole",
            "failed in 1 of 2 rounds: b",
            "90.00 (80.00..100.00)",
        ):
            self.assertIn(part, text)

    def test_json_is_valid_with_infinities(self):
        result = sample()
        result.add("culvert v1", {"rate": 1, "wait": float("inf")})
        data = json.loads(
            report.as_json([result], "culvert v2", {}),
            parse_constant=lambda name: self.fail(f"{name} is not JSON"),
        )
        self.assertIsNone(data["rows"][0]["medians"]["culvert v1"]["wait"])

    def test_svg_is_well_formed(self):
        result = sample()
        result.add("culvert v1", {"rate": 1, "wait": float("inf")})
        minidom.parseString(plot.row_svg(result, ["floor ring", "culvert v2", "culvert v1"]))

    def test_every_target_names_a_metric_of_its_row(self):
        for row in all_rows():
            keys = {metric.key for metric in row.metrics}
            for target in row.targets:
                self.assertIn(target.key, keys, row.title)
                self.assertIn(target.rival_key, keys, row.title)


class Pairs(unittest.TestCase):
    """--against: who is measured when, and what the ratios say."""

    def test_interval_by_order_statistics(self):
        self.assertIsNone(pairs.interval([1, 2, 3, 4, 5]))
        self.assertEqual(pairs.interval([6, 1, 2, 5, 3, 4]), (1, 6))
        self.assertEqual(pairs.interval(range(1, 16)), (4, 12))
        self.assertEqual(pairs.interval(range(1, 26)), (8, 18))

    def result(self, a, b):
        result = report.RowResult(Sample(), "cubic")
        for side, figures in (("A", a), ("B", b)):
            for rate, wait in figures:
                result.add(f"x {side}", {"rate": rate, "wait": wait})
        return result

    def test_ratios_are_those_of_the_pairs(self):
        rate, wait = pairs.comparisons(
            self.result([(10, 1), (20, 1), (40, 0)], [(20, 2), (20, 3), (20, 4)]), "x"
        )
        self.assertEqual((rate.a, rate.b, rate.ratio, rate.count), (20, 20, 1.0, 3))
        self.assertEqual((wait.ratio, wait.count, wait.word()), (2.5, 2, "too few pairs"))

    def test_words_follow_the_direction_of_the_metric(self):
        for factor, words in ((2, ["B better", "B WORSE"]), (0.5, ["B WORSE", "B better"])):
            found = pairs.comparisons(self.result([(1, 1)] * 6, [(factor, factor)] * 6), "x")
            self.assertEqual([each.word() for each in found], words)
        mixed = self.result([(1, 1)] * 6, [(2, 1), (0.5, 1)] * 3)
        self.assertEqual(
            [each.word() for each in pairs.comparisons(mixed, "x")], ["no difference shown"] * 2
        )

    def test_text_and_json(self):
        result = self.result([(10, 1)] * 6, [(20, 2)] * 6)
        text = report.pairs_row_text(result, "x")
        self.assertIn("under cubic: x, B / A", text)
        self.assertRegex(text, r"rate +\| more +\| 10.00 +\| 20.00 +\| 2.000 \| 2.000..2.000 ")
        self.assertIn("Nothing was measured", report.pairs_row_text(self.result([], []), "x"))
        data = report.as_json([result], "x", {}, lambda r: pairs.as_dict(r, "x"))
        (row,) = json.loads(data)["rows"]
        self.assertEqual(row["targets"], [])
        self.assertEqual(
            row["pairs"][0],
            {"metric": "rate", "a": 10, "b": 20, "b_over_a": 2, "interval": [2, 2], "pairs": 6},
        )

    def run_of(self, figures):
        """A run whose contestant, as A and as B, brings the next of these, or fails with it."""
        order = []

        class Row(Sample):
            def measure(self, _run, contestant):
                order.append((contestant.name, contestant.program))
                figure = figures.pop(0)
                if isinstance(figure, Exception):
                    raise figure
                return {"rate": figure}

        run = types.SimpleNamespace(culvert="/a", round=0, contestant=lambda name: named(name))
        run.args = types.SimpleNamespace(against="/b", only=None, rounds=2)
        named = lambda name: types.SimpleNamespace(name=name, program="/a")  # noqa: E731
        return run, report.RowResult(Row()), order

    def test_the_first_is_so_in_turns(self):
        run, result, order = self.run_of([1, 2, 3, 4])
        program = load_program()
        for run.round in range(2):
            program.measure_pair(run, result.row, result)
        a, b = ("culvert v2 A", "/a"), ("culvert v2 B", "/b")
        self.assertEqual(order, [a, b, b, a])
        self.assertEqual(result.values(a[0], "rate"), [1, 4])
        self.assertEqual(result.values(b[0], "rate"), [2, 3])

    def test_a_pair_with_a_failure_is_none(self):
        run, result, _ = self.run_of([1, StartError("gone")])
        load_program().measure_pair(run, result.row, result)
        self.assertEqual((result.rounds, result.failures), ({}, {"culvert v2 B": ["gone"]}))

    def test_both_sides_are_the_contestant_with_another_program(self):
        run = types.SimpleNamespace(file=lambda name: f"/run/{name}", culvert="/a")
        for contestant in all_contestants(run):
            if contestant.ours:
                a, b = pairs.sides_of(contestant, ("/a", "/b"))
                a.lanes = b.lanes = lambda: []
                for role in ("server_argv", "client_argv"):
                    left, right = (
                        getattr(side, role)(*(1, 2)[: 1 + (role == "server_argv")])
                        for side in (a, b)
                    )
                    self.assertEqual((left[0], right[0]), ("/a", "/b"))
                    self.assertEqual(len(left), len(right))

    def arguments(self, **given):
        wanted = {"pairs": None, "against": None, "rows": None, "rounds": None}
        args = argparse.Namespace(culvert=sys.executable, **{**wanted, **given})
        with contextlib.redirect_stderr(io.StringIO()):
            load_program().check_pairs(argparse.ArgumentParser(), args)
        return args

    def test_arguments(self):
        here = sys.executable
        self.assertEqual(self.arguments(against=here, rows="1").rounds, 15)
        self.assertEqual(self.arguments(against=here, rows="1", pairs=7).rounds, 7)
        self.assertIsNone(self.arguments().rounds)
        for wrong in (
            {"pairs": 3},
            {"against": here},
            {"against": here, "rows": "1", "pairs": 0},
            {"against": here, "rows": "1", "rounds": 2},
            {"against": "/nowhere/culvert", "rows": "1"},
        ):
            with self.assertRaises(SystemExit, msg=wrong):
                self.arguments(**wrong)


def machine_setting():
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as text:
        return text.read().strip()


def wait_for(true, within=5.0):
    deadline = time.monotonic() + within
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def gone(pids):
    """Whether all of them have ended; a zombie has."""
    return wait_for(lambda: all(state_of(pid) in (None, "Z") for pid in pids))


def end_loop(pid):
    """Also when the test that started it failed; the number may be another's by now."""
    try:
        with open(f"/proc/{pid}/cmdline") as text:
            if "while :; do :; done" in text.read():
                os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as text:
            return text.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


class Beside(unittest.TestCase):
    """--beside: that many loops, busy, and none left over, however the runner ends."""

    def run_script(self, end):
        code = (
            "import signal, sys, time\n"
            "from runner.procs import start_busy, stop_all\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
            "try:\n"
            "    loops = start_busy(3, '/dev/null')\n"
            "    print(*(loop.pid for loop in loops), flush=True)\n"
            f"    {end}\n"
            "except KeyboardInterrupt:\n"
            "    pass\n"
            "finally:\n"
            "    stop_all()\n"
        )
        env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
        runner = subprocess.Popen(
            [sys.executable, "-B", "-c", code], env=env, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(runner.stdout.close)
        self.addCleanup(runner.wait)
        self.addCleanup(runner.kill)
        pids = [int(pid) for pid in runner.stdout.readline().split()]
        for pid in pids:
            self.addCleanup(end_loop, pid)
        return runner, pids

    def test_they_are_busy_and_end_with_the_runner(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            runner, pids = self.run_script("time.sleep(30)")
            self.assertEqual(len(pids), 3)
            self.assertTrue(wait_for(lambda: all(state_of(pid) == "R" for pid in pids)))
            runner.send_signal(number)
            self.assertTrue(gone(pids), number)

    def test_they_end_when_all_is_measured(self):
        _, pids = self.run_script("pass")
        self.assertEqual(len(pids), 3)
        self.assertTrue(gone(pids))

    def test_the_report_says_so(self):
        program = load_program()
        self.assertEqual(program.beside_text({"beside": 0, "beside_cpu": 0}), "")
        text = program.beside_text({"beside": 2, "beside_cpu": 7.2})
        self.assertEqual(text, "beside 2 busy loops, which took 7 CPU-s; ")

    def test_a_loop_that_ended_spoils_the_run(self):
        loop = types.SimpleNamespace(pid=os.getpid(), alive=lambda: True)
        ended = types.SimpleNamespace(pid=os.getpid(), alive=lambda: False)
        self.assertGreaterEqual(load_program().check_busy([loop]), 0)
        with self.assertRaises(StartError):
            load_program().check_busy([loop, ended])


class BesideBulk(unittest.TestCase):
    """Rows 11 and 18: what begins first, and that each is counted only while the other runs."""

    def measured(self, row, monkey):
        """The row's figures, and the windows: (mode, begins, counts from, ends)."""
        windows, clock = [], [0.0]

        def started(_run, mode, _ports, **options):
            window = (mode, clock[0], clock[0] + options["warm"] / 1e3)
            windows.append(window + (window[2] + options["ms"] / 1e3,))
            return types.SimpleNamespace(result=lambda _: figures(mode), stop=lambda: None)

        def loadgen(_run, mode, _port, seconds, warm=WARM, **_options):
            windows.append((mode, clock[0], clock[0] + warm, clock[0] + warm + seconds))
            clock[0] = windows[-1][3] + 10
            return figures(mode)

        def figures(mode):
            number = len(windows)
            return {"gbit_per_second": 100 + number, "latency_us": {"p50": number, "p99": 9}}

        def wait(_port, count, _processes):
            self.assertEqual(count, monkey[windows[-1][0]])

        path = types.SimpleNamespace(port=1, processes=[], stop=lambda: None)
        run = types.SimpleNamespace(seconds=2.0, origins=types.SimpleNamespace(echo=1))
        with mock.patch.multiple(
            rows, Background=started, loadgen=loadgen, wait_visitors=wait
        ), mock.patch.object(
            rows.time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s)
        ):
            got = row.measure(run, types.SimpleNamespace(start=lambda _: path))
        return got, windows

    def test_both_orders(self):
        for row, mode, count in ((rows.Fairness(), "open", 64), (rows.PingPong(), "rr", 1)):
            got, windows = self.measured(row, {mode: count, "bulk": 1})
            self.assertEqual([w[0] for w in windows], ["bulk", mode, mode, "bulk", "bulk", mode])
            for first, second in (windows[2:4], windows[4:6]):
                self.assertLessEqual(first[1], second[1])
                for one, other in ((first, second), (second, first)):
                    self.assertGreaterEqual(one[2], other[1])  # counts once the other runs
                    self.assertLessEqual(one[3], other[3] + 0.11)
            self.assertGreaterEqual(windows[5][1], windows[4][1] + 0.5)
            self.assertEqual(set(got), {metric.key for metric in row.metrics})
            self.assertEqual((got["p50_beside"], got["bulk_beside"]), (4, 104))
            self.assertEqual((got["late_p50_beside"], got["late_bulk_beside"]), (6, 106))

    def test_visitors_are_counted(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.assertEqual(visitors_of(port), 0)
            with socket.create_connection(("127.0.0.1", port)):
                self.assertTrue(wait_for(lambda: visitors_of(port) == 1))
        with self.assertRaises(StartError):
            wait_visitors(port, 1, [types.SimpleNamespace(
                alive=lambda: False, argv=["x"], tail=lambda: "")])


class Picky(Control):
    """A kernel that knows cubic and bbr."""

    def _write(self, name):
        if name not in ("cubic", "bbr"):
            raise OSError(1, "Operation not permitted")
        super()._write(name)


class Congestion(unittest.TestCase):
    """Over a file that stands for the kernel's setting; the last test asks the kernel itself."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.setting = os.path.join(folder.name, "setting")
        self.write("bbr\n")

    def write(self, text):
        with open(self.setting, "w") as out:
            out.write(text)

    def in_force(self):
        with open(self.setting) as text:
            return text.read().strip()

    def control(self, wanted, refused=None):
        return Picky(wanted, self.setting, lambda: refused)

    def test_in_a_network_of_its_own_all_that_the_kernel_has(self):
        control = self.control(["cubic", "vegas", "bbr"])
        self.assertEqual((control.default, control.names), ("bbr", ["cubic", "bbr"]))
        self.assertEqual((control.now, self.control(["cubic"]).now), ("bbr", "bbr"))
        self.assertEqual(list(control.absent), ["vegas"])
        self.assertIn("Operation not permitted", control.absent["vegas"])
        self.assertEqual(self.in_force(), "bbr")
        for name in ("cubic", "bbr"):
            control.use(name)
            self.assertEqual(self.in_force(), name)

    def test_without_one_nothing_is_set(self):
        control = self.control(["cubic", "bbr"], refused="not root")
        self.assertEqual((control.names, control.absent), (["bbr"], {"cubic": "not root"}))
        self.assertEqual(self.in_force(), "bbr")

    def test_bulk_is_measured_even_if_no_control_can_be_had(self):
        control = self.control(["cubic"], refused="not root")
        self.assertEqual((control.names, list(control.absent)), (["bbr"], ["cubic"]))

    def test_bulk_rows_run_under_each_and_no_others(self):
        control = self.control(["cubic", "bbr"])
        twice = [row.number for row in all_rows() if control.of(row) == ["cubic", "bbr"]]
        once = [row.number for row in all_rows() if control.of(row) == ["bbr"]]
        self.assertEqual(twice, [1, 2, 7, 14])
        self.assertEqual(sorted(twice + once + [12]), sorted(row.number for row in all_rows()))
        self.assertEqual([control.of(row) for row in all_rows() if row.number == 12], [[None]])

    def test_each_measurement_is_under_the_control_that_its_table_names(self):
        program, seen = load_program(), []
        run = types.SimpleNamespace(control=self.control(["cubic", "bbr"]), round=0)
        run.args = types.SimpleNamespace(rounds=1)
        row = types.SimpleNamespace(number=1, bulk=True)
        row.measure = lambda *_: seen.append(self.in_force()) or {"rate": 1}
        for name in ("cubic", "bbr", "cubic"):
            program.measure_one(
                run, row, report.RowResult(row, name), types.SimpleNamespace(name="a")
            )
        self.assertEqual(seen, ["cubic", "bbr", "cubic"])

    def test_output_names_it(self):
        results = [report.RowResult(all_rows()[0], name) for name in ("cubic", "bbr")]
        for rate, result in enumerate(results, 1):
            result.add("direct", {"up": rate})
            text = report.row_text(result, ["direct"], "culvert v2")
            self.assertIn(f"plain, under {result.congestion}\n", text)
            self.assertIn(f"under {result.congestion}<", plot.row_svg(result, ["direct"]))
        data = json.loads(report.as_json(results, "culvert v2", {}))["rows"]
        figures = [(row["congestion"], row["medians"]["direct"]["up"]) for row in data]
        self.assertEqual(figures, [("cubic", 1), ("bbr", 2)])
        with tempfile.TemporaryDirectory() as folder:
            plot.write_svgs(results, ["direct"], folder)
            self.assertEqual(sorted(os.listdir(folder)), ["row-1-bbr.svg", "row-1-cubic.svg"])

    def test_head_names_what_was_not_measured(self):
        facts = {"congestion": "bbr", "congestion_bulk": ["bbr"], "congestion_absent": {}}
        program = load_program()
        self.assertNotIn("not measured", program.congestion_text(facts))
        facts["congestion_absent"]["cubic"] = "not root"
        self.assertIn("Bulk under cubic was not measured: not root", program.congestion_text(facts))

    def test_derived_rows_and_the_seeds_table_take_their_own_control(self):
        one, seven = (next(row for row in all_rows() if row.number == n) for n in (1, 7))
        results = [report.RowResult(row, cc) for row in (one, seven) for cc in ("cubic", "bbr")]
        for rate, result in enumerate(results[:2], 1):
            result.add("culvert v2", {"up": rate, "down": rate, "up_cpu": rate})
        load_program().derive(results)
        self.assertEqual([r.median("culvert v2", "up_cpu") for r in results[2:]], [1, 2])
        for name, rate in (("cubic", 1), ("bbr", 2)):
            self.assertEqual(report.by_number(results, name)[1].median("culvert v2", "up"), rate)

    @unittest.skipUnless(os.geteuid() == 0, "only root has a network of its own")
    def test_the_machine_keeps_its_setting(self):
        code = (
            "from runner.congestion import Control, enter_network as e; "
            "c = Control(['reno', 'cubic'], enter=e); "
            "[c.use(n) for n in c.names]; print(c.own, c.default, c.names[-1], c._read())"
        )
        before = machine_setting()
        env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], env=env, capture_output=True, text=True, check=True
        )
        own, default, last, now = done.stdout.split()
        after = machine_setting()
        self.assertEqual((after, default), (before, before))
        self.assertEqual(now, last if own == "True" else default)


class Counters(unittest.TestCase):
    def test_sums_over_workers(self):
        log = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"bench-counters-{os.getpid()}")
        with open(log, "w") as out:
            out.write("old\n")
            offset = out.tell()
            for worker in range(2):
                out.write(
                    f"worker {worker}: phase 0, streams 0\n  ring: 2 waits, 5 submissions\n"
                    "  3 visitors handed to another worker\n"
                )
        try:
            sums = CulvertPath._parse(log, offset)
        finally:
            os.unlink(log)
        self.assertEqual(
            sums, {"waits": 4, "submissions": 10, "visitors handed to another worker": 6}
        )


class Names(unittest.TestCase):
    """Rows and targets name contestants by text."""

    def setUp(self):
        run = types.SimpleNamespace(file=lambda name: f"/run/{name}", culvert="culvert")
        self.contestants = {contestant.name: contestant for contestant in all_contestants(run)}

    def test_rows_name_contestants_that_exist(self):
        for row in all_rows():
            self.assertLessEqual({*row.quick, *row.full}, set(self.contestants), row.title)

    def test_quick_and_full_measure_whom_the_targets_name(self):
        for row in all_rows():
            rivals = {row.subject or "culvert v2"}
            for target in row.targets:
                if target.rival == "best floor":
                    rivals.update(FLOORS)
                elif isinstance(target.rival, str):
                    rivals.add(target.rival)
                elif target.rival == RINGS:
                    rivals.update(RINGS)
            self.assertLessEqual(rivals, set(row.quick), row.title)
            self.assertLessEqual(rivals, set(row.full), row.title)

    def test_the_open_loop_goes_by_the_better_ring_floor(self):
        row = next(row for row in all_rows() if row.number == 5)
        rates = {"floor ring": 1000, "floor plain": 1500}
        row.capacity = lambda _run, floor: rates[floor]
        run = types.SimpleNamespace(round=0, contestant=lambda name: name)
        self.assertEqual(row.half_capacity(run), 750)

    def test_row_numbers_differ(self):
        numbers = [row.number for row in all_rows()]
        self.assertEqual(sorted(numbers), list(range(19)))

    def test_tls_adds_flags_and_changes_none(self):
        plain, tls = self.contestants["culvert v2"], self.contestants["culvert tls"]
        self.assertIsInstance(plain, Culvert)
        self.assertIsInstance(tls, CulvertTls)
        plain.lanes = lambda: []
        for before, after in (
            (plain.server_argv(1, 2), tls.server_argv(1, 2)),
            (plain.client_argv(1), tls.client_argv(1)),
        ):
            self.assertEqual(before, after[: len(before)])
            self.assertIn("--tls", after[len(before) :])
            self.assertEqual(after[after.index("--record-engine") + 1], "user")
        self.assertNotIn("--tls", plain.server_argv(1, 2) + plain.client_argv(1))
        self.assertNotEqual(tls.state("server"), tls.state("client"))

    def test_haproxy_has_tls_between_the_hops_only(self):
        plain, tls = self.contestants["HAProxy tcp x2"], self.contestants["HAProxy tls x2"]
        self.assertIsInstance(plain, HAProxy)
        self.assertIsInstance(tls, HAProxyTls)
        self.assertEqual((tls.listen_as("far"), tls.dial_as("near")), ("", ""))
        self.assertIn("ssl", tls.dial_as("far"))
        self.assertEqual([plain.listen_as("near"), plain.dial_as("far")], ["", ""])


class Parsing(unittest.TestCase):
    def test_lists_of_numbers(self):
        self.assertEqual(number_list("3"), [3])
        self.assertEqual(number_list("1,14-17,0"), [1, 14, 15, 16, 17, 0])
        for wrong in ("", "1,", "a", "1-", "-3", "17-14", "1-2-3"):
            with self.assertRaises(ValueError, msg=wrong):
                number_list(wrong)

    def test_rows_by_range(self):
        program = load_program()
        pick = lambda text: [row.number for row in program.pick_rows(arguments(text))]  # noqa: E731
        self.assertEqual(pick("14-17"), [14, 15, 16, 17])
        self.assertEqual(pick("7"), [1, 7])
        self.assertEqual(len(pick(None)), len(all_rows()))
        for wrong in ("18-19", "x"):
            with self.assertRaises(SystemExit, msg=wrong):
                pick(wrong)

    def test_count_of_s_time(self):
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            for text, count in (
                ("Collecting connection statistics for 1 seconds\n***\n\n"
                 "340 connections in 0.16s; 2125.00 connections/user sec, bytes read 0\n"
                 "340 connections in 2 real seconds, 0 bytes read per connection\n", 340),
                ("\n\n0 connections in 0.00s; -nan connections/user sec\n", None),
                ("s_time: unable to connect\n", None),
            ):
                with open(log, "w") as out:
                    out.write(text)
                if count:
                    self.assertEqual(s_time_count(log), count)
                else:
                    with self.assertRaises(StartError):
                        s_time_count(log)


def arguments(rows):
    return types.SimpleNamespace(rows=rows)


class Attacks(unittest.TestCase):
    """bench/attack: what is a ratio, and what breaks the rule."""

    def setUp(self):
        self.program = load_program("attack")

    def round(self, rate, p99, bulk, log_in):
        requests = {"requests": rate, "per_second": rate, "latency_us": {"p99": p99}}
        return self.program.result_of(
            {"requests": requests, "bulk": {"gbit_per_second": bulk}}, [0.01, log_in]
        )

    def judge(self, *attacked):
        rounds = [{"reference": self.round(1000, 50, 4.0, 0.02), "attacked": a} for a in attacked]
        found = self.program.figures(rounds)
        return found, self.program.holds(found)

    def test_medians_and_the_longest_log_in(self):
        found, holds = self.judge(
            self.round(900, 90, 3.6, 0.5), self.round(100, 900, 1, 0.9), self.round(950, 60, 4, 0.1)
        )
        self.assertEqual((found["rate"], found["p99"], found["bulk"]), (0.9, 1.8, 0.9))
        self.assertEqual(found["log-in"], 0.9)
        self.assertTrue(holds)

    def test_each_rule_is_one(self):
        rows = ((790, 50, 4, 0.1), (1000, 101, 4, 0.1), (1000, 50, 3, 0.1), (1000, 50, 4, 1.1))
        for broken in rows:
            self.assertFalse(self.judge(self.round(*broken))[1], broken)

    def test_a_load_that_was_lost_or_not_answered(self):
        for requests in (None, {"requests": 0, "per_second": 0, "latency_us": {"p99": 0}}):
            lost = self.program.result_of({"requests": requests, "bulk": None}, [0.1])
            self.assertEqual((lost["rate"], lost["p99"], lost["bulk"]), (0, float("inf"), 0))
            self.assertFalse(self.judge(lost)[1])

    def test_one_load_alone(self):
        alone = self.program.result_of({"bulk": {"gbit_per_second": 4}}, [0.1])
        rounds = [{"reference": alone, "attacked": {**alone, "did": 1}}]
        self.assertTrue(self.program.holds(self.program.figures(rounds)))
        self.assertIn("holds", self.program.line_of("x", rounds))

    def test_attacks_are_there(self):
        for name, attack in self.program.ATTACKS.items():
            if not attack.siege:
                self.assertIn(attack.arguments[0], self.program.hostile.ATTACKS, name)


def load_program(name="run"):
    """A program of bench/ as a module; its name has no ending that an import would find."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    loader = importlib.machinery.SourceFileLoader("bench_" + name, path)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("bench_" + name, loader)
    )
    loader.exec_module(module)
    return module


if __name__ == "__main__":
    unittest.main()
