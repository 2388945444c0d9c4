"""Mechanisms, one readable file each.

name                 file                    source
organic              organic.py              no ads: the reference for answer quality
prompted             prompted.py             LLM-Auction (2025), "pre-trained LLM"
gem_insert           gem_insert.py           GEM-Bench (2025): similar ads, inserted where the answer breaks least
fixed_slots          fixed_slots.py          answer engines' sponsored lines, priced by GSP
production           production.py           answer engines' one card, priced per click or per view: help pages of 2026
gsp                  gsp.py                  Edelman, Ostrovsky, Schwarz (2007); Varian (2007)
first_price          first_price.py          each click costs the bid
vcg                  vcg.py                  Vickrey, Clarke, Groves; for positions Varian (2007)
myerson              myerson.py              Myerson (1981); for positions Edelman, Schwarz (2010)
segment              segment.py              Hajiaghayi, Lahaie, Rezaei, Shin (2024)
summary              summary.py              Dubey, Feng, Kidambi, Mehta, Wang (2024)
rewrite              rewrite.py              Feizi et al. (2023); Mordo, Tennenholtz, Kurland (2024); GEM-Bench (2025)
position_auction     position_auction.py     Balseiro et al. (2025), with multinomial logit clicks
genre_vcg            genre_vcg.py            Xu, Chen, Deng, Huang, Schoenebeck (2026): bids are for genres, not queries
sponsored_questions  sponsored_questions.py  Bhawalkar, Psomas, Wang (2025): the user chooses a follow-up question
lera                 lera.py                 Sun et al. (2026): the language model judges relevance on a short list
screened_vcg         quality_preserving.py   Han, Dai (2026), several ads: a reserve from each ad's quality cost
quality_preserving   quality_preserving.py   Han, Dai (2026), one ad or none, KL-regularised
mosaic               mosaic.py               Soumalias, Curry, Seuken (2025)
lama                 lama.py                 Liu, Zhang, Yu, Ye, Qi (2026): winner and answer drawn together from a menu
token_auction        token_auction.py        Duetting, Mirrokni, Paes Leme, Xu, Zuo (2024)
lama_tokens          lama_tokens.py          the same token by token, with prompts as policies: no claims
tilted_optimum       tilted_optimum.py       LLM-Auction (2025), section 3: its optimum, exact on a finite menu
menu_optimum         menu_optimum.py         LLM-Auction (2025), eq. 5: the best answer of the same menu
best_of_n            best_of_n.py            LLM-Auction (2025), section 2, with VCG payments
fixed_turn           fixed_turn.py           one ad a session: second price in a turn that bids do not move
optimal_stopping     optimal_stopping.py     Fang et al. (2026), LLM-OSDA: one ad a session, at the best time to stop
first_price_timing   first_price_timing.py   Banchio, Mehta, Perlroth (2024): bids decide the turn of the one ad
second_price_timing  second_price_timing.py  the same under the second price
softmax              softmax.py              one ad or none at random, known propensities: McSherry, Talwar (2007)

Mechanisms are looked up by name in the entry-point group `simenv.mechanisms` of pyproject.toml; third-party packages
register in the same group. Texts come from `simenv.Writer`. `ranking.py` is shared by auctions that rank candidates
before a text is written; `one_ad.py` and `stopping.py` by those that plan the one ad of a session; `menu.py` by those
that choose among written texts; `matching.py` by those that match ads to places in an answer; `joint_sentence.py` by
those that decode a sentence from several models. `strength.py` is the contrastive decoding of `rewrite`.
"""
