"""Team projects: planner, two builders and reviewer make a small project of several files from a brief.

| file | what is in it |
|---|---|
| `tree` | files by path, the operations in which agents write them, what of a turn takes effect |
| `brief` | what is asked, read from an example and checked |
| `programs`, `sites`, `corpus` | generated briefs of seven sorts, with the files that do what they ask |
| `pages` | a page of HTML as a parser sees it, and where its links lead |
| `checks` | what a tree is worth: acceptance tests, planted faults, links, unfinished parts |
| `task` | all of this as a task: prompts, rounds, rewards, endings; the settings, and the sandbox |
"""
