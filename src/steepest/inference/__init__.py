"""The right posterior, with a certificate (sections 5.3, 5.8, 7.3).

`fit` runs one method on a log density, `compare` several, `certify` judges draws of any origin. An
`Answer` holds draws, their cost and a `Certificate`: statements with their assumptions, and bounds
on the error of means and sds.
"""

from .answer import Answer as Answer
from .answer import Budget as Budget
from .certificate import Certificate as Certificate
from .certificate import Statement as Statement
from .certify import certify as certify
from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .comparison import fit as fit
from .evidence import Evidence as Evidence
from .evidence import log_evidence as log_evidence
from .kernel import as_kernel as as_kernel
from .target import Target as Target
