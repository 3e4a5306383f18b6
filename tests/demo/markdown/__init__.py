"""What the tests of the chat page's Markdown run: its modules in Node, beside markdown-it-py."""
