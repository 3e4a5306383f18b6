// The modules of docs/client-helpers.md: a conversation with the demo, and a chat of the AI SDK.

import { serve } from './protocol.mjs';
import { openChat } from './chat.js';
import { openConversation } from './conversation.js';

const kept = new Map();
const storage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key),
};
const text = (message) => message.parts.map((part) => part.text).join('|');

function open(kind, options) {
  if (kind === 'chat') return openChat(options);
  const own = { text: '', value: null, ...openConversation({ ...options, storage }) };
  own.write = (piece) => (own.text += piece);
  return own;
}

await serve(
  open,
  {
    send: ({ chat }, said) => chat.sendMessage({ text: said }),
    resume: ({ chat }) => chat.resumeStream(),
    stop: (own) => own.stop(),
    say: async (own, said) => (own.state = await own.say(said, own.write)),
    follow: async (own) => (own.state = await own.follow(own.write)),
    ask: async (own, method, ...given) => (own.value = await own.client[method](...given)),
    request: async (own, path) => (own.value = (await own.client.request(path)).status),
    forget: (own) => (own.client.id = null),
  },
  (own) =>
    own.chat
      ? {
          messages: own.chat.messages.map((message) => [message.role, text(message)]),
          end: own.failure ?? own.chat.error?.message ?? own.chat.status,
        }
      : {
          messages: [['assistant', own.text]],
          end: own.failure ?? own.state ?? null,
          id: own.client.id,
          kept: [...kept.values()],
          value: own.value,
        },
);
