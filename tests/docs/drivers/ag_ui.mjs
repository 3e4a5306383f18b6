// The module of docs/ag-ui.md, and the HttpAgent that it extends.

import { serve } from './protocol.mjs';
import { Agent } from './agent.js';

// After a cut, HttpAgent rejects a promise that nobody has.
const unhandled = [];
process.on('unhandledRejection', (error) => unhandled.push(String(error)));

function open(options) {
  const agent = new Agent(options);
  const ends = []; // how each run has ended
  agent.subscribe({
    onRunFinishedEvent: ({ outcome }) => void ends.push(outcome),
    onRunErrorEvent: ({ event }) => void ends.push(event.message),
  });
  return { agent, ends };
}

await serve(
  open,
  {
    visit: ({ agent }) => agent.comeBack(),
    send: ({ agent }, said) => agent.ask(said),
    stop: ({ agent }) => agent.stop(),
    leave: ({ agent }) => agent.abortRun(),
  },
  ({ agent, ends, failure }) => ({
    messages: agent.messages.map((message) => [message.role, message.content]),
    ids: agent.messages.map((message) => message.id),
    end: failure ?? ends.at(-1) ?? null,
  }),
);
