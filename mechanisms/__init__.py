"""Mechanisms, one readable file each.

name                file                   source
organic             organic.py             no ads: the reference for answer quality
prompted            prompted.py            LLM-Auction (2025), "pre-trained LLM"
gem_insert          gem_insert.py          GEM-Bench (2025): similar ads, inserted where the answer breaks least
fixed_slots         fixed_slots.py         answer engines' sponsored lines, priced by GSP
gsp                 gsp.py                 Edelman, Ostrovsky, Schwarz (2007); Varian (2007)
first_price         first_price.py         each click costs the bid
vcg                 vcg.py                 Vickrey, Clarke, Groves; for positions Varian (2007)
myerson             myerson.py             Myerson (1981); for positions Edelman, Schwarz (2010)
segment             segment.py             Hajiaghayi, Lahaie, Rezaei, Shin (2024)
summary             summary.py             Dubey, Feng, Kidambi, Mehta, Wang (2024)
rewrite             rewrite.py             Feizi et al. (2023); Mordo, Tennenholtz, Kurland (2024); GEM-Bench (2025)
position_auction    position_auction.py    Balseiro et al. (2025), with multinomial logit clicks
lera                lera.py                Sun et al. (2026): the language model judges relevance on a short list
screened_vcg        quality_preserving.py  Han, Dai (2026), several ads: a reserve from each ad's quality cost
quality_preserving  quality_preserving.py  Han, Dai (2026), one ad or none, KL-regularised
mosaic              mosaic.py              Soumalias, Curry, Seuken (2025)
token_auction       token_auction.py       Duetting, Mirrokni, Paes Leme, Xu, Zuo (2024)
tilted_optimum      tilted_optimum.py      LLM-Auction (2025), section 3: its optimum, exact on a finite menu
menu_optimum        menu_optimum.py        LLM-Auction (2025), eq. 5: the best answer of the same menu
best_of_n           best_of_n.py           LLM-Auction (2025), section 2, with VCG payments
softmax             softmax.py             one ad or none at random, with known propensities: McSherry and Talwar (2007)

Mechanisms are looked up by name in the entry-point group `simenv.mechanisms` of pyproject.toml; third-party packages
register in the same group. Texts come from `simenv.Writer`. `ranking.py` is shared by auctions that rank candidates
before a text is written. `menu.py` is shared by mechanisms that choose among written texts. `strength.py` is the
contrastive decoding of `rewrite`.
"""
