"""SSL-HSIC: features that depend on which video they come from, and on nothing else."""

from vidssl.objectives.hsic.imq import bandwidth_log_gradient as bandwidth_log_gradient
from vidssl.objectives.hsic.objective import EXACT_ROWS as EXACT_ROWS
from vidssl.objectives.hsic.objective import SSLHSIC as SSLHSIC
from vidssl.objectives.hsic.objective import hsic_exact as hsic_exact
from vidssl.objectives.hsic.objective import hsic_random_features as hsic_random_features
from vidssl.objectives.hsic.random_features import sample_imq_features as sample_imq_features
