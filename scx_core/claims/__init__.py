"""Claims: every sentence that the app, the command line, the README or a figure says, beside its rival.

In come a tracer and its atlas; out comes one table: each sentence with its figure, the figure that could
embarrass it, its 95% interval, n, and whether it holds. The rooms before this one make the rows
(`consensus_claims`, `difference_claims`, `tie_claims`, `ranking_claims`, `smallest_claims`,
`validation_claims`, `atlas_claims`); this one measures what they need, and asks the rest.
"""

from scx_core.claims.claim import claims_text
from scx_core.claims.gather import PARTS, AllClaims, ClaimsConfig, ClaimsPart, all_claims, quick
