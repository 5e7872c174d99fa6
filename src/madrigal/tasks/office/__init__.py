"""An office: planner, writer, coder, tester and reviewer make one text or one program at a shared board.

| file | what is in it |
|---|---|
| `board` | the shared and the private state |
| `work` | the kinds of work: what is asked, what tools find, what a piece is worth |
| `primitives` | what can be done to the board: before, effect, after |
| `roles` | who may do what, and what each does if it names nothing |
| `acts` | one action of one agent, and its entry in the trace |
| `task` | all of this as a task: rounds, rewards, endings |
| `prompts` | what each role is shown |
| `services` | the task with its sandbox |
"""
