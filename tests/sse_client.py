"""A reader of event streams, written to the HTML standard (section 9.2.6), and a client that uses it."""
import codecs
import http.client
import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Message:
    "What a page's listener would get."
    event: str
    data: str
    last_event_id: str

    @property
    def json(self) -> Any: return json.loads(self.data)


class Parser:
    "Bytes in, messages out; what else a stream says is in `comments`, `retry` and `last_event_id`."
    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder('utf-8')('replace')
        self.is_start, self.after_cr, self.line = True, False, ''
        self.data, self.event, self.id, self.last_event_id = '', '', '', ''
        self.retry: int | None = None
        self.comments: list[str] = []

    def feed(self, data: bytes) -> list[Message]:
        text = self.decoder.decode(data)
        if self.is_start and text:
            self.is_start = False
            text = text.removeprefix('\ufeff')
        if self.after_cr and text: text = text.removeprefix('\n')   # the second half of CRLF
        *lines, rest = re.split('\r\n|\r|\n', text)
        out = []
        for line in lines:
            self.line += line
            out += self.end_line()
        self.line += rest
        if data: self.after_cr = text.endswith('\r') if text else self.after_cr and not data.endswith(b'\n')
        return out

    def end_line(self) -> list[Message]:
        line, self.line = self.line, ''
        if not line: return self.dispatch()
        if line[0] == ':': self.comments.append(line[1:])
        else:
            field, _, value = line.partition(':')
            self.take(field, value.removeprefix(' '))
        return []

    def take(self, field: str, value: str) -> None:
        if field == 'event': self.event = value
        elif field == 'data': self.data += value + '\n'
        elif field == 'id' and '\0' not in value: self.id = value
        elif field == 'retry' and value and all(c in '0123456789' for c in value): self.retry = int(value)

    def dispatch(self) -> list[Message]:
        self.last_event_id = self.id
        data, event, self.data, self.event = self.data, self.event, '', ''
        return [Message(event or 'message', data.removesuffix('\n'), self.last_event_id)] if data else []


class Page:
    "A client of a real server, on one connection."
    def __init__(self, port: int, path: str, last_event_id: str | None = None, timeout: float = 20):
        headers = {'Accept': 'text/event-stream'}
        if last_event_id is not None: headers['Last-Event-ID'] = last_event_id
        self.connection = http.client.HTTPConnection('127.0.0.1', port, timeout=timeout)
        self.connection.request('GET', path, headers=headers)
        self.response = self.connection.getresponse()
        self.parser, self.seen, self.is_complete = Parser(), [], False

    def __enter__(self) -> 'Page': return self
    def __exit__(self, *exc: object) -> None: self.close()

    def read(self) -> list[Message]:
        "What comes next; nothing once the stream is complete."
        data = self.response.read1(65536)
        if not data: self.is_complete = True
        new = self.parser.feed(data)
        self.seen += new
        return new

    def read_until(self, condition: Callable[['Page'], object]) -> list[Message]:
        "Read until this holds of the page; all messages so far."
        while not condition(self):
            assert not self.is_complete, f'it has ended, after {self.seen}'
            self.read()
        return self.seen

    def read_all(self) -> list[Message]:
        while not self.is_complete: self.read()
        return self.seen

    def close(self, reset: bool = False) -> None:
        "Hang up; with `reset` as a machine does that was switched off and comes back."
        if reset and self.connection.sock is not None:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.response.close()
        self.connection.close()


def ask_and_leave(port: int, path: str, reset: bool) -> None:
    "Send a request and hang up before there is an answer."
    with socket.create_connection(('127.0.0.1', port)) as s:
        s.sendall(f'GET {path} HTTP/1.1\r\nHost: x\r\n\r\n'.encode())
        if reset: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def ask_and_stare(port: int, path: str) -> socket.socket:
    "Send a request and read nothing of the answer, with little room for it."
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.connect(('127.0.0.1', port))
    s.sendall(f'GET {path} HTTP/1.1\r\nHost: x\r\n\r\n'.encode())
    return s
