"""An HTTP exchange as it went: whether the request was answered, and whether its client stayed until it was."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import Message, Receive, Send


class Exchange:
    """An ASGI `receive` and `send` that pass everything on."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._status = 0
        self._ended = False
        self.left = False
        """Whether the client was gone before the end."""

    @property
    def answered(self) -> bool:
        """Whether the client was there for the whole of an answer that is no error."""
        return self._status == HTTPStatus.OK and self._ended and not self.left

    async def receive(self) -> Message:
        """The next message of the client."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._ended:
            self.left = True
        return message

    def cut(self) -> None:
        """Note that nobody listens any more."""
        self.left |= not self._ended

    async def send(self, message: Message) -> None:
        """Pass on a part of the response."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body")
        await self._send(message)
