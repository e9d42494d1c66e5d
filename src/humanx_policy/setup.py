from pathlib import Path

from setuptools import find_packages, setup

package_name = 'humanx_policy'

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (
            f'share/{package_name}/policies',
            sorted(str(path) for path in Path('policies').glob('*.onnx')),
        ),
    ],
    install_requires=['setuptools'],
    zip_safe=True,
    maintainer='HumanX maintainers',
    maintainer_email='maintainers@humanx.invalid',
    description='Observation history, ONNX runtime and the 100 Hz policy node of HumanX.',
    license='Apache-2.0',
    entry_points={'console_scripts': ['policy = humanx_policy.node:main']},
)
