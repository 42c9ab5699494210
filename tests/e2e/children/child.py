#!/usr/bin/env python3
"""A pool's child, written from PROTOCOL.md alone. What it does is what its arguments say:
{"do": NAME, ...}. Bodies run on threads, so that it holds as many as it is given."""
import json
import os
import signal
import socket
import sys
import threading
import time

sock = socket.socket(fileno=int(os.environ.pop("ERRAND_FD")))
lock = threading.Lock()
answers = {}
cancelled = {}
deaf = threading.Event()
last_seq = 0


def say(**message):
    with lock:
        sock.sendall(json.dumps(message).encode() + b"\n")


class Refused(Exception):
    pass


def begin_to_ask(run, type, **members):
    global last_seq
    box = {"event": threading.Event()}
    with lock:
        last_seq += 1
        seq = last_seq
        answers[seq] = box
    say(type=type, run=run, seq=seq, **members)
    return box


def ask(run, type, **members):
    return answer_of(begin_to_ask(run, type, **members))


def answer_of(box):
    box["event"].wait()
    if "error" in box["answer"]:
        raise Refused(box["answer"]["error"])
    return box["answer"]


def until(path):
    while not os.path.exists(path):
        time.sleep(0.005)


def body(message):
    run, args = message["run"], message["args"]
    what = args.get("do")
    if what == "echo":
        return args.get("value")
    if what == "who":
        return {"pid": os.getpid(), "worker": os.environ["ERRAND_WORKER"]}
    if what == "message":
        return message
    if what == "fail":
        raise ValueError(args["text"])
    if what == "print":
        print(args["text"], flush=True)
        print("err " + args["text"], file=sys.stderr, flush=True)
        return None
    if what == "log":
        say(type="log", run=run, text=args["text"], stream="stdout")
        return None
    if what == "progress":
        say(type="progress", run=run, value=0.5, note="half")
        until(args["path"])
        return None
    if what == "nap":
        time.sleep(args["seconds"])
        return None
    if what == "file":
        if "mark" in args:
            open(args["mark"], "w").close()
        until(args["path"])
        return os.getpid()
    if what == "cancellable":
        open(args["mark"], "w").close()
        cancelled[run].wait()
        if args.get("succeed"):
            return "all the same"
        raise RuntimeError("it was to end")
    if what == "stall":
        open(args["mark"], "w").close()
        if args.get("deaf"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        while True:
            time.sleep(1)
    if what == "die":
        if "path" in args:
            until(args["path"])
        os.kill(os.getpid(), signal.SIGKILL) if args.get("signal") else os._exit(args.get("code", 3))
    if what == "die_once":
        if message["attempt"] == 1:
            os._exit(4)
        return message["attempt"]
    if what == "step":
        first = ask(run, "step", name="once", value=args["value"])
        again = ask(run, "step", name="once", value="other")
        return [first["value"], first["found"], again["value"], again["found"], ask(run, "steps")["steps"],
                message["steps"]]
    if what == "step_then_die":
        if message["attempt"] == 1:
            ask(run, "step", name="once", value={"a": 1})
            os._exit(5)
        return message["steps"]
    if what == "step_then_mark":
        open(args["before"], "w").close()
        until(args["path"])
        ask(run, "step", name="held", value=1)
        open(args["mark"], "w").close()
        return None
    if what == "send":
        return ask(run, "message", body=args["value"])["seq_out"] > 0
    if what == "inbox":
        answer = ask(run, "inbox", **args.get("ask", {}))
        return answer["message"] and answer["message"]["body"]
    if what == "file_then_child":
        open(args["mark"], "w").close()
        until(args["path"])
    if what in ("child", "file_then_child"):
        ids = [ask(run, "submit", submission=s)["id"] for s in args["submissions"]]
        answer = ask(run, "wait", ids=ids, **args.get("wait", {}))
        return {"timed_out": answer["timed_out"], "results": [[r["status"], r["result"]] for r in answer["results"]]}
    if what == "children":
        boxes = [begin_to_ask(run, "submit", submission=args["submission"]) for _ in range(args["count"])]
        ids = [answer_of(box)["id"] for box in boxes]
        statuses = [r["status"] for r in ask(run, "wait", ids=ids)["results"]]
        return {status: statuses.count(status) for status in statuses}
    if what == "address":
        with open(args["into"] + ".new", "w") as file:
            file.write(message["lease_url"])
        os.rename(args["into"] + ".new", args["into"])
        until(args["path"])
        return ask(run, "steps")["steps"]
    if what == "look":
        return ask(run, "look", id=args["id"])["result"]
    if what == "suspend":
        if "state" in message:
            return [message["state"], message["woken"]["by"], [m["body"] for m in message["woken"]["messages"]]]
        ask(run, "suspend", on=args["on"], state={"was": "here"})
        return "dropped"
    if what == "ask":
        return ask(run, args["type"], **args.get("members", {}))
    if what == "memory":
        if "mark" in args:
            open(args["mark"], "w").close()
            until(args["path"])
        body.kept = bytearray(args["bytes"])
        if "then" in args:
            until(args["then"])
        return os.getpid()
    if what == "raw":
        if args.get("mark"):
            open(args["mark"], "a").write("x")
        sock.sendall(args["bytes"].encode().replace(b"RUN", b"%d" % run))
        time.sleep(60)
    if what == "bytes":
        sock.sendall(bytes.fromhex(args["hex"]))
        time.sleep(60)
    if what == "deep":
        sock.sendall(b'{"type":"done","run":%d,"result":%s}\n' % (run, b"[" * args["levels"] + b"]" * args["levels"]))
        time.sleep(60)
    if what == "lag":
        def looks():
            for _ in range(args["times"]):
                ask(run, "look", id=args["id"])
        threads = [threading.Thread(target=looks) for _ in range(20)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return "looked"
    if what == "greedy":
        for seq in range(5000, 5000 + args["times"]):
            with lock:
                answers[seq] = {"event": threading.Event()}
        open(args["mark"], "w").close()
        for seq in range(5000, 5000 + args["times"]):
            line = b'{"type":"step","run":%d,"seq":%d,"name":"s","value":"' % (run, seq)
            with lock:
                sock.sendall(line + b"x" * args["bytes"] + b'"}\n')
        while any(seq in answers for seq in range(5000, 5000 + args["times"])):
            time.sleep(0.01)
        return "answered"
    if what == "change_group":
        helper = os.fork()
        if helper == 0:
            os.setpgid(0, 0)
            time.sleep(60)
            os._exit(0)
        while os.getpgid(helper) != helper:
            time.sleep(0.005)
        os.setpgid(0, helper)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        open(args["mark"], "w").close()
        while True:
            time.sleep(1)
    if what == "leave_one_behind":
        if os.fork() == 0:
            os.setsid()
            open(args["mark"], "w").write("%d" % os.getpid())
            time.sleep(60)
            os._exit(0)
        until(args["mark"])
        os._exit(8)
    if what == "flood":
        line = b'{"type":"log","run":%d,"text":"%s"}\n' % (run, b"x" * 1000)
        for _ in range(args["lines"]):
            with lock:
                sock.sendall(line)
        return "flooded"
    if what == "long":
        sock.sendall(b'{"type":"done","run":%d,"result":"' % run)
        chunk = b"x" * (1 << 20)
        for _ in range(40):
            sock.sendall(chunk)
        time.sleep(60)
    if what == "twice":
        with lock:
            for seq in (1001, 1002):
                answers[seq] = {"event": threading.Event()}
        for seq in (1001, 1002):
            say(type="inbox", run=run, seq=seq)
        answered = []
        while not answered:
            answered = [seq for seq in (1001, 1002) if seq in answers and answers[seq]["event"].is_set()]
            answered += [seq for seq in (1001, 1002) if seq not in answers]
            time.sleep(0.01)
        return "answered"
    if what == "unread":
        deaf.set()
        for seq in range(2000, 2200):
            say(type="look", run=run, seq=seq, id=args["id"])
        time.sleep(60)
    if what == "many":
        until(args["path"])
        for seq in range(2000, 3001):
            say(type="message", run=run, seq=seq, body=seq)
        time.sleep(60)
    if what == "die_waiting":
        threading.Thread(target=lambda: ask(run, "inbox"), daemon=True).start()
        until(args["path"] + str(message["attempt"]))
        os._exit(6)
    if what == "hang_up":
        sock.shutdown(socket.SHUT_RDWR)
        time.sleep(60)
    raise KeyError(what)


def run(message):
    number = message["run"]
    try:
        result = body(message)
    except Refused as refused:
        say(type="failed", run=number, error={"type": "refused:" + refused.args[0]["type"],
                                              "message": refused.args[0]["message"]})
    except Exception as error:
        types = [c.__name__ for c in type(error).__mro__]
        say(type="failed", run=number, error={"type": types[0], "message": str(error), "types": types,
                                              "traceback": "Traceback: here", "retry": message["args"].get("retry")}
            if message["args"].get("retry") is not None else
            {"type": types[0], "message": str(error), "types": types, "traceback": "Traceback: here"})
    else:
        say(type="done", run=number, result=result)


def main():
    if os.environ.get("DIE_AT_START"):
        sys.exit(7)
    if os.environ.get("STALL_AT_START"):
        time.sleep(60)
    if os.environ.get("IGNORE_CLOSE"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.environ.get("STARTED"):
        with open(os.environ["STARTED"], "a") as file:
            file.write("%d\n" % os.getpid())
    lines = sock.makefile("r", encoding="utf-8")
    hello = json.loads(lines.readline())
    assert hello["type"] == "hello" and hello["protocol"] >= 1
    print("a worker is there", flush=True)
    say(type="ready", protocol=1, client="child.py")
    for line in lines:
        while deaf.is_set():
            time.sleep(1)
        message = json.loads(line)
        if message["type"] == "run":
            cancelled[message["run"]] = threading.Event()
            threading.Thread(target=run, args=(message,), daemon=True).start()
        elif message["type"] == "cancel":
            if message["run"] in cancelled:
                cancelled[message["run"]].set()
        elif message["type"] == "answer":
            box = answers.pop(message["seq"], None)
            if box:
                box["answer"] = message
                box["event"].set()
        elif message["type"] == "close":
            if not os.environ.get("IGNORE_CLOSE"):
                break


main()
os._exit(0)
