"""An office: planner, writer, coder, tester and reviewer make one text or one program at a shared board.

| file | what is in it |
|---|---|
| `work` | the kinds of work: what is asked, what tools find, what a piece is worth |
| `board` | shared and private state, what can be done to it, who may do what, words as actions |
| `task` | all of this as a task: prompts, rounds, rewards, endings; the settings, and the sandbox |
"""
