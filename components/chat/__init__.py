"""Asking any OpenAI-compatible model many things: concurrent, resumable, within a budget.

client = ChatClient(config.chat, cache=scratch / "answers.jsonl")
answers = client.ask_many([ChatRequest("What is shown?", images=(png,), schema=SCHEMA)])
"""

from components.chat.client import ChatClient
from components.chat.types import ChatAnswer, ChatRequest, ChatUsage

__all__ = ["ChatAnswer", "ChatClient", "ChatRequest", "ChatUsage"]
