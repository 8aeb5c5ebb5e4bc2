"""How often each significance call of this software says something where there is nothing to say."""

from .of_features import feature_rates, match_rates
from .rates import NULLS, NullConfig, NullRates, Rate, gene_set_rate, null_rates, null_rows
