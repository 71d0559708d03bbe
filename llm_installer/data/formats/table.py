"""FORMATS: every format that is understood, from the most to the least specific."""

from __future__ import annotations

from llm_installer.data.formats.converters import (
    alpaca,
    asked,
    below_named,
    conversation,
    openai,
    plain,
    question,
    sharegpt,
    turns_of_two,
    two_lists,
)
from llm_installer.data.formats.format import Format, shapes
from llm_installer.data.formats.oasst import best_thread, build_trees
from llm_installer.data.formats.pairs import CONTINUED, JOINED, QUESTIONS, continuation, pair
from llm_installer.data.formats.special import RATED, captioned, code, functions, labelled, preferred, squad_questions

_INSTRUCTION = {"prompt": "instruction", "answer": "output", "context": "input"}
_QUESTION = {"prompt": "question"}

FORMATS: tuple[Format, ...] = (
    Format(
        "oasst",
        shapes("message_id parent_id text role", "message_tree_id prompt:object"),
        best_thread,
        "OpenAssistant: flat messages of a whole file, or trees; the best-ranked thread of each tree",
        '{"message_id": "2", "parent_id": "1", "role": "assistant", "text": "Hi!"}',
        notice="of several replies to one message, only the best ranked is trained on",
        group=build_trees,
    ),
    Format(
        "squad",
        shapes("paragraphs:turns", "context qas:turns"),
        question,
        "SQuAD and QuAC as published: articles with paragraphs with questions",
        '{"paragraphs": [{"context": "...", "qas": [{"question": "Who?", "answers": [{"text": "Ada"}]}]}]}',
        synonyms=("quac",),
        notice="questions without an answer in their text are skipped",
        spread=squad_questions,
    ),
    Format(
        "kto",
        shapes(
            *(f"{keys} {verdict}:bool" for keys in ("messages", "conversations") for verdict in ("label", "kto_tag")),
            *(f"instruction output {verdict}:bool" for verdict in ("label", "kto_tag")),
            "prompt completion label:bool",
            *(f"{pair} label:bool" for pair in RATED),
        ),
        labelled,
        "answers labelled good or bad; the good ones are trained on",
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], "label": true}',
        notice="answers labelled false are skipped",
    ),
    Format(
        "preference",
        shapes("chosen_messages rejected_messages", "chosen rejected"),
        preferred,
        "pairs of a better and a worse answer",
        '{"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away."}',
        synonyms=("dpo", "orpo", "ranking"),
        notice="only the chosen answers are trained on, not the rejected ones",
    ),
    Format(
        "function_calling",
        shapes("functions function_call", "query answers tools"),
        functions,
        "a request, the functions offered and the call that answers it",
        '{"prompt": "Rain?", "functions": [{"name": "sky"}], "function_call": {"name": "sky", "arguments": {}}}',
        synonyms=("tools", "xlam"),
        columns={"tools": "functions", "answer": "function_call"},
    ),
    Format(
        "openai",
        shapes("messages"),
        openai,
        "messages with role and content; parts, images, tool calls",
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}',
        synonyms=("chatml", "messages"),
    ),
    Format(
        "conversational",
        shapes("prompt:list completion:list"),
        two_lists,
        "prompt and completion that are both lists of messages",
        '{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Yo"}]}',
        columns={"answer": "completion"},
    ),
    Format(
        "lima",
        shapes("conversations:texts", "conversation:texts", "dialog:texts", "dialogue:texts"),
        conversation(("conversations", "conversation", "dialog", "dialogue")),
        "plain strings, user and assistant alternating",
        '{"conversations": ["Hi", "Hello!"]}',
        columns={"messages": "conversations"},
    ),
    Format(
        "sharegpt",
        shapes("conversations", "conversation:turns", "items:turns", "dialog:turns", "dialogue:turns"),
        sharegpt,
        "conversations with from and value; tool calls and observations, <image> with image",
        '{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}',
        synonyms=("vicuna", "llava"),
        columns={"messages": "conversations"},
    ),
    Format(
        "multi_turn",
        shapes("turns:turns"),
        turns_of_two,
        "turns that say who speaks, or hold both sides",
        '{"turns": [{"user": "Hi", "assistant": "Hello!"}]}',
        columns={"messages": "turns"},
    ),
    Format(
        "vision_qa",
        shapes(*(f"{image} question {answer}" for image in ("image", "images") for answer in ("answer", "answers"))),
        question,
        "a question about an image",
        '{"image": "cat.png", "question": "What is it?", "answer": "A cat."}',
        synonyms=("vqa",),
        columns=_QUESTION,
    ),
    Format(
        "dolly",
        shapes("instruction context response", "instruction context output"),
        asked(("instruction",), ("response", "output"), "context", below_named),
        "an instruction, a text it is about, and the response",
        '{"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada."}',
        columns={"prompt": "instruction", "answer": "response"},
    ),
    Format(
        "code_alpaca",
        shapes("instruction output lang"),
        code,
        "alpaca about code; input and output are fenced with their language",
        '{"instruction": "Add two numbers", "input": "", "output": "a + b", "lang": "python"}',
        columns=_INSTRUCTION,
    ),
    Format(
        "alpaca",
        shapes("instruction output", "instruction response", "instruction completion", "instruction answer"),
        alpaca,
        "an instruction, perhaps an input, and the output; perhaps system and history",
        '{"instruction": "Translate to French", "input": "Hello", "output": "Bonjour"}',
        synonyms=("wizardlm", "instruct"),
        columns=_INSTRUCTION,
    ),
    Format(
        "orca",
        shapes("system_prompt question response", "system_prompt question answer"),
        question,
        "a question under a system prompt",
        '{"system_prompt": "Be brief.", "question": "2+2?", "response": "4"}',
        columns={**_QUESTION, "answer": "response", "system": "system_prompt"},
    ),
    Format(
        "llama_chat",
        shapes("system user assistant"),
        asked(("user",), ("assistant",)),
        "system, user and assistant in columns",
        '{"system": "Be brief.", "user": "Hi", "assistant": "Hello!"}',
        columns={"prompt": "user", "answer": "assistant"},
    ),
    Format(
        "chat",
        shapes("user assistant"),
        asked(("user",), ("assistant",)),
        "user and assistant in columns",
        '{"user": "Hi", "assistant": "Hello!"}',
        columns={"prompt": "user", "answer": "assistant"},
    ),
    Format(
        "anthropic",
        shapes("human assistant", "Human Assistant"),
        asked(("human", "Human"), ("assistant", "Assistant")),
        "human and assistant in columns",
        '{"human": "Hi", "assistant": "Hello!"}',
        synonyms=("claude",),
        columns={"prompt": "human", "answer": "assistant"},
    ),
    Format(
        "qa",
        shapes(
            *(f"{asks} {says}" for asks in ("question", "query") for says in ("answer", "answers")),
            *(f"question {says}" for says in ("response", "output", "reply", "target")),
            "problem solution",
            "problem answer",
        ),
        question,
        "a question and its answer or answers (the first is trained on), perhaps with a context",
        '{"question": "What is the capital of France?", "answer": "Paris"}',
        synonyms=("question_answer",),
        columns=_QUESTION,
    ),
    Format(
        "completion",
        CONTINUED,
        continuation,
        "a text that goes on where the prompt ends; no chat template",
        '{"prompt": "The weather today is", "completion": " sunny."}',
        columns={"answer": "completion"},
        notice="each text goes on where its prompt ends, without a chat template; if they are questions and answers, "
        "add --dataset-format pair",
        when_asked=JOINED,
    ),
    Format(
        "pair",
        QUESTIONS,
        pair,
        "a question and its answer under other names",
        '{"query": "Hi", "response": "Hello!"}',
        synonyms=("query_response",),
        columns={"prompt": "query", "answer": "response"},
        notice="questions and answers go through the chat template; if each text goes on where its prompt ends, "
        "add --dataset-format completion",
        when_asked=CONTINUED,
    ),
    Format(
        "vision",
        shapes(
            *(
                f"{image} {said}"
                for image in ("image", "images", "image_path", "file_name")
                for said in ("caption", "text")
            )
        ),
        captioned,
        "an image and its caption",
        '{"image": "sunset.jpg", "caption": "A sunset over the ocean"}',
        synonyms=("caption",),
        columns={"answer": "caption"},
    ),
    Format(
        "text",
        shapes("text"),
        plain,
        "plain text, trained on as it is",
        '{"text": "Once upon a time"}',
        synonyms=("guanaco", "mistral", "plain"),
    ),
)
