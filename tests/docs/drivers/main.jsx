// A page with the component of docs/ai-sdk.md, or with the AI SDK's useChat({ resume: true }) alone.

import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport } from 'ai';
import { createRoot } from 'react-dom/client';
import { Page } from './page.jsx';

const { id, account, plain } = Object.fromEntries(new URLSearchParams(location.search));
const headers = { Authorization: `Bearer ${account}` };
const transport = new DefaultChatTransport({ headers });

function Plain() {
  const { messages, status } = useChat({ id, resume: true, transport });
  return (
    <main data-status={status}>
      {messages.map((message) => (
        <p key={message.id} className={message.role}>
          {message.parts.map((part) => part.text)}
        </p>
      ))}
    </main>
  );
}

createRoot(document.getElementById('root')).render(
  plain ? <Plain /> : <Page id={id} account={account} />,
);
