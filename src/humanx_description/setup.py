from glob import glob

from setuptools import find_packages, setup

package_name = 'humanx_description'

setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(exclude=['test']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        (f'share/{package_name}/skills', sorted(glob('skills/*.yaml'))),
    ],
    install_requires=['setuptools'],
    zip_safe=True,
    maintainer='HumanX maintainers',
    maintainer_email='maintainers@humanx.invalid',
    description='The Unitree G1, objects, MuJoCo scenes, skills, scenarios and the judge.',
    package_data={package_name: ['*.xml']},
    license='Apache-2.0',
    extras_require={'test': ['pytest']},
)
