"""Reading Nameko code without running it, and rewriting it.

Rooms: `names` (what each of Nameko's names becomes), `source` (files as text, kept byte for byte), `reading` (one
module's syntax tree), `tree` (all modules together: what a name means, whose base a class is), `grading` (what moves
and how), `arguments` (one declaration's arguments), `rewriting` (the edits; the only room that needs libcst).
"""

__all__: list[str] = []
