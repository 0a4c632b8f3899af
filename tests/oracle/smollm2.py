"""What transformers says to a few questions with the weights of SmolLM2-135M-Instruct in a GGUF file: greedy tokens in f32, with the
weights dequantised; and what tokens its tokenizer makes of some texts. Expected values of crates/zmlx-lm/tests/smollm2.rs.

    pip install torch transformers gguf accelerate
    python tests/oracle/smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf crates/zmlx-lm/tests
"""

import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea, with the words “blue” and 'naïve'.",
    "def fibonacci(n):\n    # 1, 1, 2, 3, 5\n",
]
TEXTS = [
    "  two  spaces\t\ttabs\n\n\nlines \r\n",
    "12345 3.14 1,000,000",
    "naïve café Straße 東京 🙂🙃 é",
    "don't I'll WE'RE o'clock",
    "<|im_start|>user\n<|im_end|> <|endoftext|>",
    "x=y+z;//c\n    if (a&&b) {return -1;}",
    "",
    " ",
]
TOKENS = 48


def write(name, value):
    with open(os.path.join(sys.argv[2], name), "w") as f:
        json.dump(value, f, indent=1, ensure_ascii=False)
        f.write("\n")


folder, name = os.path.split(os.path.abspath(sys.argv[1]))
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()

cases = []
for question in QUESTIONS:
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        tokens = torch.tensor([ids])
        first = model(tokens).logits[0, -1]
        margins = []
        out = list(ids)
        past = None
        step = tokens
        for _ in range(TOKENS):
            result = model(step, past_key_values=past, use_cache=True)
            past = result.past_key_values
            best = torch.topk(result.logits[0, -1], 2)
            margins.append(float(best.values[0] - best.values[1]))
            token = int(best.indices[0])
            if token == tokenizer.eos_token_id:
                break
            out.append(token)
            step = torch.tensor([[token]])
    made = out[len(ids):]
    cases.append({
        "question": question,
        "prompt": prompt,
        "prompt_tokens": ids,
        "tokens": made,
        "text": tokenizer.decode(made),
        "least_margin": round(min(margins), 4),
        "logits": [round(float(x), 4) for x in first[:8]],
    })
write("smollm2.json", cases)
texts = [{"text": text, "tokens": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in TEXTS]
write("smollm2_texts.json", texts)
