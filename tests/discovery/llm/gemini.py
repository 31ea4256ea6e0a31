"""A server on this machine that speaks the Gemini protocol, and its faults.

For tests; `Agents` answers like a model that knows what it is asked.
"""

import contextlib
import http.server
import json
import threading
import time


def body(text, *, finish="STOP", prompt=120, output=80, thoughts=40, cached=0):
  """What the server says when all is well."""
  return {
      "candidates": [
          {
              "content": {"role": "model", "parts": [{"text": text}]},
              "finishReason": finish,
              "index": 0,
          }
      ],
      "usageMetadata": {
          "promptTokenCount": prompt,
          "candidatesTokenCount": output,
          "thoughtsTokenCount": thoughts,
          "cachedContentTokenCount": cached,
          "totalTokenCount": prompt + output + thoughts,
      },
      "modelVersion": "gemini-test-001",
  }


def ok(text, **counts):
  """200 with a reply."""
  return 200, json.dumps(body(text, **counts)), {}


def error(code, status, *, details=(), headers=None, message="not now"):
  """An error in the words of the protocol."""
  inner = {
      "code": code,
      "message": message,
      "status": status,
      "details": list(details),
  }
  return code, json.dumps({"error": inner}), headers or {}


CUT = "cut"  # an answer that ends in the middle


class Server:
  """Answers each request by what `answer(request, count)` says.

  Attributes:
    answer: gives (code, body, headers), `CUT`, or seconds to wait before one
      of them as (seconds, answer).
    requests: bodies that came, in order.
    headers: of them.
    most_at_once: requests that were in work at the same time.
  """

  def __init__(self, answer):
    self.answer = answer
    self.requests, self.headers, self.paths = [], [], []
    self.most_at_once = self._working = 0
    self._lock = threading.Lock()

  @contextlib.contextmanager
  def running(self):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), _handler_for(self)
    )
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
      self.url = f"http://127.0.0.1:{server.server_port}"
      yield self
    finally:
      server.shutdown()
      thread.join()
      server.server_close()

  def take(self, request, headers, path):
    with self._lock:
      count = len(self.requests)
      self.requests.append(request)
      self.headers.append(headers)
      self.paths.append(path)
      self._working += 1
      self.most_at_once = max(self.most_at_once, self._working)
    return self.answer(request, count)

  def done(self):
    with self._lock:
      self._working -= 1


def _handler_for(server):
  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
      length = int(self.headers["content-length"])
      request = json.loads(self.rfile.read(length))
      answer = server.take(request, dict(self.headers), self.path)
      if isinstance(answer, tuple) and len(answer) == 2:
        time.sleep(answer[0])
        answer = answer[1]
      server.done()
      with contextlib.suppress(OSError):
        self._reply(answer)

    def _reply(self, answer):
      code, text, headers = ok("{}") if answer == CUT else answer
      data = text.encode()
      self.send_response(code)
      self.send_header("content-type", "application/json")
      self.send_header("content-length", str(len(data)))
      for name, value in headers.items():
        self.send_header(name, value)
      self.end_headers()
      if answer == CUT:
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.close_connection = True
        return
      self.wfile.write(data)

    def log_message(self, *_):
      pass

  return Handler


def texts(request):
  """The user's turns of a request."""
  return [
      part["text"]
      for content in request["contents"]
      for part in content["parts"]
      if content.get("role") == "user"
  ]


def asked_for(request):
  """Which agent asks, by what it demands."""
  fields = request["generationConfig"]["responseJsonSchema"]["properties"]
  if "source" in fields:
    system = request["systemInstruction"]["parts"][0]["text"]
    return "oracle" if "the one who checks" in system else "code"
  return {
      "ideas": "research",
      "marks": "screening",
      "steps": "plan",
      "diagnosis": "analysis",
  }[next(f for f in fields if f in ("ideas", "marks", "steps", "diagnosis"))]


def idea(name="steady_clip", **changes):
  """An idea that has all it needs."""
  return {
      "name": name,
      "bottleneck": "a lone success weighs too little",
      "hypothesis": f"{name} lets it weigh more through the advantage",
      "equations": f"{name}: A = (r - mean_g r) / (std_g r + 1e-6); loss = ...",
      "edge_cases": {
          "all_fail": "A = 0",
          "all_pass": "A = 0",
          "all_invalid": "A = 0",
          "one_valid": "as usual",
      },
      "constants": [
          {"name": "gain", "value": 0.5, "neutral": 0.0, "meaning": "weight"}
      ],
      "predictions": [
          {
              "metric": "overall",
              "direction": "higher",
              "because": "more signal",
          },
          {"metric": "kl", "direction": "lower", "because": "steadier"},
      ],
      "falsifier": "Overall does not rise over three seeds",
      "tags": ["advantage", "scale"],
  } | changes


def ideas(*names):
  return {"directions": ["the scale"], "ideas": [idea(n) for n in names]}


def marks(*scores):
  """A judgement on each idea, all four marks alike."""
  return {
      "marks": [
          {
              "idea": i,
              "consistency": s,
              "feasibility": s,
              "novelty": s,
              "expected_gain": s,
              "reason": "as it stands",
          }
          for i, s in enumerate(scores)
      ]
  }


PLAN = {
    "steps": [{"equation": "A = ...", "computation": "group_normalized"}],
    "guards": ["std + 1e-6"],
    "gradients": "stopped at the advantage",
}
ANALYSIS = {
    "diagnosis": {
        "advantage": "rare successes weighed more",
        "kl": "did not move beyond its interval",
        "entropy": "did not move beyond its interval",
    },
    "predictions": [{"metric": "overall", "comment": "open"}],
    "confidence": "low",
    "verdict": "scope",
    "scope": "the pass rate is low",
    "next_directions": ["one more seed"],
}


class Agents:
  """Answers every agent well, the engineer with the sources that are given.

  Attributes:
    replies: agent -> what it says, one after the other, the last one again.
  """

  def __init__(self, sources=("good",), oracles=("good",), **replies):
    self.replies = {
        "research": [ideas("steady_clip", "other_way")],
        "screening": [marks(4, 3)],
        "plan": [PLAN],
        "code": [{"source": s, "notes": ""} for s in sources],
        "oracle": [{"source": s, "notes": ""} for s in oracles],
        "analysis": [ANALYSIS],
    } | replies
    self.asked = []

  def __call__(self, kind):
    said = self.replies[kind]
    turn = self.asked.count(kind)
    self.asked.append(kind)
    return said[min(turn, len(said) - 1)]

  def ask(self, prompt, schema):
    """As a direct line, without a server; names of labels tell the agents."""
    kind = prompt.label.split()[0]
    return schema.model_validate_json(json.dumps(self(kind)))

  def answer(self, request, _):
    """As a server."""
    return ok(json.dumps(self(asked_for(request))))
