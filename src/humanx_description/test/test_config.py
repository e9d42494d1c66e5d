"""The strict reader of settings."""

from dataclasses import dataclass

import pytest
import yaml

from humanx_description.config import from_mapping
from humanx_description.errors import UserError


@dataclass
class _Settings:
    rate: float
    name: str = ''


@pytest.mark.parametrize(('text', 'value'), [('1e-3', 1e-3), ('-2E6', -2e6), ('1.5e+2', 150.0), ('3', 3.0)])
def test_numbers_as_people_write_them(text, value):
    assert from_mapping(_Settings, {'rate': yaml.safe_load(text)}, 'file').rate == value


@pytest.mark.parametrize('text', ['1e', 'e3', 'fast', '1e999', '"1.0"'])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(UserError, match=r'file: rate is .*; expected'):
        from_mapping(_Settings, {'rate': yaml.safe_load(text)}, 'file')


def test_text_that_looks_like_a_number_stays_text():
    assert from_mapping(_Settings, {'rate': 1, 'name': '1e3'}, 'file').name == '1e3'
