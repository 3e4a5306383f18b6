// The module of docs/ai-sdk.md, and the AI SDK's own Chat, which it opens.

import { serve } from './protocol.mjs';
import { openChat } from './chat.js';

const text = (message) => message.parts.map((part) => part.text).join('|');

await serve(
  openChat,
  {
    visit: (page) => page.open(),
    send: (page, said) => page.send(said),
    stop: (page) => page.stop(),
    leave: ({ chat }) => chat.stop(),
    resume: ({ chat }) => chat.resumeStream(),
    regenerate: ({ chat }) => chat.regenerate(),
    edit: ({ chat }, number, said) =>
      chat.sendMessage({ text: said, messageId: chat.messages[number].id }),
    forget: ({ chat }) => (chat.messages = []),
  },
  ({ chat, failure }) => ({
    messages: chat.messages.map((message) => [message.role, text(message)]),
    ids: chat.messages.map((message) => message.id),
    end: failure ?? chat.error?.message ?? chat.status,
  }),
);
